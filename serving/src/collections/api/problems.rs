//! The problems that an operation may meet, for the document.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::problem::PROBLEM_TYPE;

/// What any operation may meet.
pub(super) struct Problems;

const ALL: [(&str, &str); 14] = [
    ("400", "The request cannot be understood."),
    ("403", "A page of another site asks."),
    ("404", "There is nothing of this name, or it is somebody else's."),
    ("408", "The body took too long."),
    ("409", "The key named another sighting before."),
    ("410", "The sighting of this key was deleted."),
    ("413", "The body is too large."),
    ("415", "The body is of a kind that is not taken."),
    ("422", "The request is understood and cannot be met."),
    ("429", "There is too much to do; send again after `Retry-After` seconds."),
    ("500", "The server failed."),
    ("501", "This server keeps no collections."),
    ("503", "Database or model are not there yet; send again after `Retry-After` seconds."),
    ("504", "The deadline passed."),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        ALL.map(problem).into()
    }
}

fn problem((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_TYPE, content).build();
    (status.to_owned(), RefOr::T(response))
}
