//! Typed identifiers of what the state store keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier (UUID version 7: sorts by the time of its making).
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// One text of one DAG.
    DagVersionId
);
id!(
    /// One run of a DAG version.
    RunId
);
id!(
    /// Runs of a DAG over a range of the past.
    BackfillId
);
id!(
    /// Something that people or programs are to be told.
    AlertId
);
id!(
    /// One update of an asset.
    AssetEventId
);
id!(
    /// One task of one run, or one item of a mapped task.
    TaskInstanceId
);
id!(
    /// One try at a task instance.
    AttemptId
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_round_trip_and_order_of_making() {
        let first = RunId::new();
        let second = RunId::new();
        assert!(first < second);
        assert_eq!(first.to_string().parse::<RunId>().unwrap(), first);
        assert!("not-an-id".parse::<RunId>().is_err());
    }
}
