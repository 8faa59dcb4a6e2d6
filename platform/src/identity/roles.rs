//! The one table of roles and what each may do; `safari roles` shows it.

use std::fmt;

use serde::Serialize;

/// What somebody is to this installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Works in the field: asks for live detections and keeps a collection.
    Ranger,
    /// Asks questions: starts runs and tracks experiments.
    Scientist,
    /// Makes models, and brings them to where they serve.
    Engineer,
    /// Keeps the installation running.
    Operator,
    /// Does everything, and manages people.
    Admin,
}

/// What a route needs. Its text is `what:how`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Look at oneself, change one's password, make and revoke one's own tokens.
    AccountOwn,
    /// Look at DAGs and their versions.
    DagsRead,
    /// Let schedules of DAGs rest and go on.
    DagsWrite,
    /// Look at runs, tasks, backfills, assets and streams.
    RunsRead,
    /// Start, cancel, resume and clear runs; backfills; updates of assets; caches.
    RunsWrite,
    /// Read what attempts have written.
    LogsRead,
    /// Give items to continuous DAGs.
    StreamsWrite,
    /// Remove runs that ended long ago.
    HistoryWrite,
    /// Read metrics of processes.
    MetricsRead,
    /// Look at experiments, runs of training, and their files.
    TrackingRead,
    /// Log experiments and runs of training, with files.
    TrackingWrite,
    /// Look at registered models, versions and promotions.
    ModelsRead,
    /// Register models and versions, describe and remove them.
    ModelsWrite,
    /// Approve versions of models, as gates of promotions ask for.
    ModelsApprove,
    /// Move aliases: promote, roll back.
    ModelsPromote,
    /// Say who is told of changes of models.
    WebhooksManage,
    /// Read detections and names of species.
    DetectionsRead,
    /// Ask for live detections.
    DetectionsAsk,
    /// Load, unload, swap and roll back models that serve.
    ServingManage,
    /// Keep one's own collection of species.
    CollectionsOwn,
    /// Manage people and tokens, and read the audit.
    UsersManage,
}

use Permission as P;

/// Who may do what. A role has its own row only: nothing is inherited.
const TABLE: [(Role, &str, &[Permission]); 6] = [
    (
        Role::Viewer,
        "looks",
        &[P::AccountOwn, P::DagsRead, P::RunsRead, P::TrackingRead, P::ModelsRead, P::DetectionsRead],
    ),
    (
        Role::Ranger,
        "works in the field: asks for live detections, keeps a collection",
        &[
            P::AccountOwn,
            P::DagsRead,
            P::RunsRead,
            P::StreamsWrite,
            P::ModelsRead,
            P::DetectionsRead,
            P::DetectionsAsk,
            P::CollectionsOwn,
        ],
    ),
    (
        Role::Scientist,
        "asks questions: starts runs, tracks experiments",
        &[
            P::AccountOwn,
            P::DagsRead,
            P::RunsRead,
            P::RunsWrite,
            P::LogsRead,
            P::StreamsWrite,
            P::TrackingRead,
            P::TrackingWrite,
            P::ModelsRead,
            P::ModelsApprove,
            P::DetectionsRead,
            P::DetectionsAsk,
            P::CollectionsOwn,
        ],
    ),
    (
        Role::Engineer,
        "makes models, and brings them to where they serve",
        &[
            P::AccountOwn,
            P::DagsRead,
            P::DagsWrite,
            P::RunsRead,
            P::RunsWrite,
            P::LogsRead,
            P::StreamsWrite,
            P::MetricsRead,
            P::TrackingRead,
            P::TrackingWrite,
            P::ModelsRead,
            P::ModelsWrite,
            P::ModelsApprove,
            P::ModelsPromote,
            P::WebhooksManage,
            P::DetectionsRead,
            P::DetectionsAsk,
            P::ServingManage,
            P::CollectionsOwn,
        ],
    ),
    (
        Role::Operator,
        "keeps the installation running",
        &[
            P::AccountOwn,
            P::DagsRead,
            P::DagsWrite,
            P::RunsRead,
            P::RunsWrite,
            P::LogsRead,
            P::StreamsWrite,
            P::HistoryWrite,
            P::MetricsRead,
            P::TrackingRead,
            P::ModelsRead,
            P::ModelsApprove,
            P::ModelsPromote,
            P::WebhooksManage,
            P::DetectionsRead,
            P::DetectionsAsk,
            P::ServingManage,
        ],
    ),
    (Role::Admin, "does everything, and manages people", &Permission::ALL),
];

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Ranger, Self::Scientist, Self::Engineer, Self::Operator, Self::Admin];

    /// Its name, in tables, tokens and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Ranger => "ranger",
            Self::Scientist => "scientist",
            Self::Engineer => "engineer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// What it is for, as the end of "who …".
    pub fn help(self) -> &'static str {
        self.row().1
    }

    /// What it may do.
    pub fn permissions(self) -> &'static [Permission] {
        self.row().2
    }

    fn row(self) -> &'static (Role, &'static str, &'static [Permission]) {
        // The rows are in the order of the roles; a test says so.
        &TABLE[self as usize]
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 21] = [
        P::AccountOwn,
        P::DagsRead,
        P::DagsWrite,
        P::RunsRead,
        P::RunsWrite,
        P::LogsRead,
        P::StreamsWrite,
        P::HistoryWrite,
        P::MetricsRead,
        P::TrackingRead,
        P::TrackingWrite,
        P::ModelsRead,
        P::ModelsWrite,
        P::ModelsApprove,
        P::ModelsPromote,
        P::WebhooksManage,
        P::DetectionsRead,
        P::DetectionsAsk,
        P::ServingManage,
        P::CollectionsOwn,
        P::UsersManage,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountOwn => "account:own",
            Self::DagsRead => "dags:read",
            Self::DagsWrite => "dags:write",
            Self::RunsRead => "runs:read",
            Self::RunsWrite => "runs:write",
            Self::LogsRead => "logs:read",
            Self::StreamsWrite => "streams:write",
            Self::HistoryWrite => "history:write",
            Self::MetricsRead => "metrics:read",
            Self::TrackingRead => "tracking:read",
            Self::TrackingWrite => "tracking:write",
            Self::ModelsRead => "models:read",
            Self::ModelsWrite => "models:write",
            Self::ModelsApprove => "models:approve",
            Self::ModelsPromote => "models:promote",
            Self::WebhooksManage => "webhooks:manage",
            Self::DetectionsRead => "detections:read",
            Self::DetectionsAsk => "detections:ask",
            Self::ServingManage => "serving:manage",
            Self::CollectionsOwn => "collections:own",
            Self::UsersManage => "users:manage",
        }
    }

    /// The roles that may do it.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| role.permissions().contains(&self))
    }
}

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// All of them.
    pub fn all() -> Self {
        Role::ALL.into_iter().collect()
    }

    /// The roles of a list of names between commas.
    ///
    /// # Errors
    /// The first name that is no role's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| Role::read(name).ok_or_else(|| name.to_owned())).collect()
    }

    /// The roles of those names that are roles'; others say nothing here.
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(Role::read).collect()
    }

    /// Whether a role is among them.
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of them are in the other, too.
    pub fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    /// Whether one of them may do it.
    pub fn may(self, permission: Permission) -> bool {
        self.iter().any(|role| role.permissions().contains(&permission))
    }

    /// Their names.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|role| role.as_str().to_owned()).collect()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        [role].into_iter().collect()
    }
}

/// Names between commas, as [`Roles::parse`] reads them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({self})")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_role_in_order() {
        for (role, row) in Role::ALL.into_iter().zip(&TABLE) {
            assert_eq!((role, role as usize), (row.0, TABLE.iter().position(|row| row.0 == role).unwrap_or(99)));
            let mut permissions = row.2.to_vec();
            permissions.dedup();
            assert_eq!(permissions.len(), row.2.len());
            assert!(permissions.is_sorted(), "{role}'s permissions are in the order of the list");
        }
        assert!(Permission::ALL.is_sorted());
        assert_eq!(Role::Admin.permissions(), Permission::ALL);
        assert_eq!(Permission::UsersManage.roles().collect::<Vec<_>>(), [Role::Admin]);
    }

    #[test]
    fn sets_are_read_and_written() {
        let both = Roles::parse("ranger, scientist,").unwrap_or_default();
        assert_eq!(both.to_string(), "ranger,scientist");
        assert_eq!(Roles::parse(&both.to_string()), Ok(both));
        assert_eq!(Roles::parse("ranger,root"), Err("root".to_owned()));
        assert!(both.may(Permission::RunsWrite) && !both.may(Permission::ModelsPromote));
        assert!(!Roles::default().may(Permission::AccountOwn), "nobody may do nothing");
        assert_eq!(both.and(Role::Ranger.into()), Role::Ranger.into());
        assert!(Roles::from(Role::Ranger).is_within(both) && !Roles::all().is_within(both));
        assert_eq!(Roles::known(["ranger", "staff"]), Role::Ranger.into());
    }
}
