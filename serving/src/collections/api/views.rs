//! What the API says, as JSON. Moments are RFC 3339 in UTC.

use detector::taxonomy::Rank;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Asking;
use crate::collections::person::Person;
use crate::collections::place::Place;
use crate::collections::species::{Catalogue, Species, Status, Statuses};
use crate::collections::store::{Profile, Seen, Source, Standing};
use crate::collections::{Handle, Moment, SightingId};
use crate::problem::Problem;

/// What the operator's table says of a species.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConservationView {
    /// Its category.
    pub status: Status,
    /// Who says so.
    pub source: String,
}

/// A taxon.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SpeciesView {
    /// Its name in addresses.
    pub id: String,
    /// English name.
    pub common_name: String,
    /// Scientific name.
    pub scientific_name: String,
    /// Level of the name: class, order, family, genus, species.
    #[schema(value_type = String)]
    pub rank: Rank,
    /// Ids from class down to what is right above.
    pub ancestors: Vec<String>,
    /// One of those that a collection counts; else a name above some of them.
    pub collectable: bool,
    /// None where the server was told nothing.
    pub conservation: Option<ConservationView>,
    /// Places and times are blurred for other people: it is threatened, or may be.
    pub blurred: bool,
}

/// A page of taxa by id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SpeciesPage {
    /// The taxa.
    pub species: Vec<SpeciesView>,
    /// `page_token` of the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// The name of a taxon.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SpeciesName {
    /// Its name in addresses.
    pub id: String,
    /// English name; the id for one that the model does not know any more.
    pub common_name: String,
    /// Scientific name.
    pub scientific_name: String,
}

/// A collector, as others know them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CollectorView {
    /// Tells nothing about the person.
    #[schema(value_type = String, format = "uuid")]
    pub id: Handle,
    /// The name they chose.
    pub name: String,
}

/// A sighting.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SightingView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: SightingId,
    /// Whose it is.
    pub collector: CollectorView,
    /// One's own.
    pub mine: bool,
    /// What was seen.
    pub species: SpeciesName,
    /// How it is known.
    pub source: Source,
    /// Probability that the model gave, 0 to 1.
    pub confidence: Option<f64>,
    /// When; the beginning of its day in UTC where `blurred`.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub time: Option<Moment>,
    /// Where; the middle of a cell of about 10 km where `blurred`.
    pub place: Option<Place>,
    /// Place and time are blurred, because the species is threatened or may be one that is.
    pub blurred: bool,
    /// What only the owner sees.
    #[serde(flatten)]
    pub own: Option<OwnView>,
}

/// What only the owner of a sighting sees.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OwnView {
    /// The key of the request that made it.
    pub key: String,
    /// The model that named it.
    pub model: Option<String>,
    /// The detection that it was made from.
    pub detection: Option<String>,
    /// Where its photograph is.
    pub picture: Option<String>,
    /// When it was recorded.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Moment,
    /// When it was changed last.
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Moment,
}

/// A page of sightings, the latest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SightingsPage {
    /// The sightings.
    pub sightings: Vec<SightingView>,
    /// `page_token` of the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// What came of each sighting of a sync, in their order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SyncAnswer {
    /// One for each.
    pub results: Vec<SyncResult>,
}

/// What came of one sighting.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SyncResult {
    /// As it was sent, where it could be read.
    pub client_id: Option<String>,
    /// As if it had been sent alone: 201 recorded, 200 known already, else `problem` says why not.
    pub status: u16,
    /// The sighting.
    pub sighting: Option<SightingView>,
    /// Why it was not recorded.
    pub problem: Option<Problem>,
}

/// What one has seen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CollectionView {
    /// Of all that a collection can have.
    pub total: ProgressCount,
    /// Taxa that were seen, by id.
    pub species: Vec<CollectedView>,
    /// Classes, orders and families.
    pub progress: Vec<ProgressView>,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ProgressCount {
    /// Taxa that were seen.
    pub seen: usize,
    /// Taxa that the model can name.
    pub known: usize,
}

/// A taxon that was seen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CollectedView {
    /// What.
    pub species: SpeciesName,
    /// Whether it counts in `progress`.
    pub collectable: bool,
    /// When for the first time; a sighting without a time counts as of when it was recorded.
    #[schema(value_type = String, format = "date-time")]
    pub first: Moment,
    /// When for the last time.
    #[schema(value_type = String, format = "date-time")]
    pub last: Moment,
    /// How often.
    pub count: i64,
    /// The photograph of the surest sighting.
    pub best_picture: Option<BestPictureView>,
}

/// A photograph that shows a taxon best.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BestPictureView {
    /// Of this sighting.
    pub sighting: String,
    /// Where it is.
    pub picture: String,
    /// How sure the model was.
    pub confidence: Option<f64>,
}

/// How much of a class, order or family was seen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProgressView {
    /// class, order or family.
    #[schema(value_type = String)]
    pub rank: Rank,
    /// The taxon.
    pub taxon: SpeciesName,
    /// How many.
    #[serde(flatten)]
    pub count: ProgressCount,
}

/// Who has seen most.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeaderboardView {
    /// The best first.
    pub collectors: Vec<StandingView>,
    /// `page_token` of the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// A collector among others.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StandingView {
    /// From 1 on; equal collectors have the same.
    pub rank: i64,
    /// Who.
    pub collector: CollectorView,
    /// Oneself.
    pub me: bool,
    /// Species that were seen.
    pub species: i64,
    /// How often something was seen.
    pub sightings: i64,
}

/// Whether others see a person's sightings and name; `hidden` until the person says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Others see them.
    Public,
    /// Nobody else does.
    Hidden,
}

/// What others are shown of a person.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProfileView {
    /// How others name the collector; none before there is a collection.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<Handle>,
    /// Shown to others.
    pub name: String,
    /// Whether others see anything.
    pub visibility: Visibility,
}

/// A profile to be.
#[derive(Clone, Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileChange {
    /// Shown to others: 1 to 80 characters.
    #[schema(min_length = 1, max_length = 80)]
    pub name: String,
    /// Whether others see anything.
    pub visibility: Visibility,
}

impl SpeciesView {
    pub(super) fn of(statuses: &Statuses, species: &Species) -> Self {
        let conservation = statuses.of(species);
        Self {
            id: species.id.clone(),
            common_name: species.common_name.clone(),
            scientific_name: species.scientific_name.clone(),
            rank: species.rank,
            ancestors: species.ancestors.clone(),
            collectable: species.is_leaf,
            conservation: conservation
                .map(|listed| ConservationView { status: listed.status, source: listed.source.clone() }),
            blurred: statuses.blurs(species),
        }
    }
}

impl SpeciesName {
    pub(super) fn of(catalogue: &Catalogue, id: &str) -> Self {
        match catalogue.get(id) {
            Some(species) => Self {
                id: species.id.clone(),
                common_name: species.common_name.clone(),
                scientific_name: species.scientific_name.clone(),
            },
            None => Self { id: id.to_owned(), common_name: id.to_owned(), scientific_name: id.to_owned() },
        }
    }
}

impl SightingView {
    /// What is shown of a sighting to whoever asks.
    pub(super) fn of(asking: &Asking, seen: &Seen) -> Self {
        let mine = seen.person == asking.person.id;
        // One that the model does not know any more may be anything.
        let species = asking.catalogue.get(&seen.species);
        let blurred = !mine && species.is_none_or(|species| asking.collections.statuses.blurs(species));
        let own = mine.then(|| OwnView {
            key: seen.key.clone(),
            model: seen.model.clone(),
            detection: seen.detection.clone(),
            picture: seen.picture.as_ref().map(|_| picture_of(&seen.id.to_string())),
            created_at: seen.created_at,
            updated_at: seen.updated_at,
        });
        Self {
            id: seen.id,
            collector: CollectorView { id: seen.handle, name: seen.name.clone() },
            mine,
            species: SpeciesName::of(&asking.catalogue, &seen.species),
            source: seen.source,
            confidence: seen.confidence,
            time: if blurred { seen.seen_at.map(Moment::midnight) } else { seen.seen_at },
            place: if blurred { seen.place.map(Place::blurred) } else { seen.place },
            blurred,
            own,
        }
    }
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        Self {
            rank: standing.rank,
            collector: CollectorView { id: standing.handle, name: standing.name },
            me: standing.is_me,
            species: standing.species,
            sightings: standing.sightings,
        }
    }
}

impl ProfileView {
    pub(super) fn of(person: &Person, profile: Option<Profile>) -> Self {
        match profile {
            Some(profile) => {
                let visibility = if profile.hidden { Visibility::Hidden } else { Visibility::Public };
                Self { id: Some(profile.handle), name: profile.name, visibility }
            }
            None => Self { id: None, name: person.name.clone(), visibility: Visibility::Hidden },
        }
    }
}

/// Where the photograph of a sighting is.
pub(super) fn picture_of(sighting: &str) -> String {
    format!("/v1/sightings/{sighting}/picture")
}
