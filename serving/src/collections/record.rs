//! From what was sent to a sighting that is kept.

use bytes::Bytes;
use serde::Serialize;

use super::api::Asking;
use super::ids::shown;
use super::place::Place;
use super::species::{Catalogue, Species};
use super::store::{Added, NewSighting, Seen, Source, sha256};
use super::tokens::Told;
use super::{Key, Moment};
use crate::batch::Terms;
use crate::detections::{Detections, photograph};
use crate::{Error, Result};

/// Bytes of a photograph.
const PICTURE_BYTES: usize = 20 << 20;

/// What a request says of a sighting. At least one of `species`, `detection` and `picture` is there.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// None if the client gave none: then nothing is known of repeats.
    pub(crate) key: Option<Key>,
    pub(crate) species: Option<String>,
    /// The token of a detection.
    pub(crate) detection: Option<String>,
    pub(crate) picture: Option<Bytes>,
    pub(crate) seen_at: Option<Moment>,
    pub(crate) place: Option<Place>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) seen: Seen,
    /// Made by this request, and not by an earlier one with the same key.
    pub(crate) is_new: bool,
}

/// What makes two requests the same.
#[derive(Serialize)]
struct Content<'a> {
    species: Option<&'a str>,
    detection: Option<&'a str>,
    picture: Option<String>,
    seen_at: Option<i64>,
    place: Option<Place>,
}

/// What was seen, and how that is known.
struct Recognised {
    species: String,
    source: Source,
    confidence: Option<f64>,
    model: Option<String>,
}

/// Records a sighting, once for each key.
pub(crate) async fn record(asking: &Asking, request: Request, terms: Terms) -> Result<Recorded> {
    if request.species.is_none() && request.detection.is_none() && request.picture.is_none() {
        let reason = "what was seen is missing: give `species`, `detection` or a photograph";
        return Err(Error::Unmet(reason.to_owned()));
    }
    let (person, store) = (&asking.person, &asking.collections.store);
    let key = request.key.clone().unwrap_or_else(Key::random);
    let digest = digest(&request)?;
    if let Some(known) = store.sighting_of_key(&person.id, &key).await? {
        return repeated(known, &digest, &key);
    }
    let media_type = request.picture.as_ref().map(check_picture).transpose()?;
    let told = request.detection.as_deref().map(|token| asking.collections.tokens.read(token)).transpose()?;
    let recognised = recognise(asking, &request, told.as_ref(), terms).await?;
    let picture = match (request.picture, media_type) {
        (Some(bytes), Some(media_type)) => Some(store.upload(bytes, &media_type).await?),
        _ => None,
    };
    let is_leaf = asking.catalogue.get(&recognised.species).is_some_and(|species| species.is_leaf);
    let Recognised { species, source, confidence, model } = recognised;
    let detection = told.map(|told| told.id);
    let (key, seen_at, place) = (key.clone(), request.seen_at, request.place);
    let sighting = NewSighting {
        key: key.clone(),
        digest: digest.clone(),
        species,
        is_leaf,
        source,
        confidence,
        model,
        detection,
        picture,
        seen_at,
        place,
    };
    match store.add_sighting(person, sighting).await? {
        Added::New(seen) => Ok(Recorded { seen, is_new: true }),
        Added::Known(known) => repeated(known, &digest, &key),
    }
}

/// The species that a client names.
///
/// # Errors
/// [`Error::Unmet`] if there is none of this id.
pub(crate) fn species<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Species> {
    let unknown = || Error::Unmet(format!("there is no species `{}`: /v1/species lists them", shown(id)));
    catalogue.get(id).ok_or_else(unknown)
}

/// Finds out what was seen. The person has the last word.
async fn recognise(asking: &Asking, request: &Request, told: Option<&Told>, terms: Terms) -> Result<Recognised> {
    if let (Some(told), Some(picture)) = (told, &request.picture)
        && told.sha256 != sha256(picture)
    {
        let reason = "the photograph is not the one of `detection`: send that one, or leave one of both out";
        return Err(Error::Unmet(reason.to_owned()));
    }
    if let Some(id) = &request.species {
        let species = species(&asking.catalogue, id)?.id.clone();
        return Ok(Recognised { species, source: Source::Named, confidence: None, model: None });
    }
    if let Some(told) = told {
        let species = named(asking, &told.scientific_name, told.common_name.as_deref())?;
        let (confidence, model) = (Some(told.confidence), Some(told.model.clone()));
        return Ok(Recognised { species, source: Source::Detection, confidence, model });
    }
    let picture = request.picture.clone().unwrap_or_default();
    let (found, _) = asking.app.single(picture, terms, None).await?;
    let (scientific_name, common_name, confidence) = surest(&found).ok_or_else(|| {
        Error::Unmet("no species was recognised on the photograph: say which it is in `species`".to_owned())
    })?;
    Ok(Recognised {
        species: named(asking, scientific_name, common_name)?,
        source: Source::Photograph,
        confidence: Some(f64::from(confidence)),
        model: Some(found.model.version.clone()),
    })
}

/// The names of the surest box that has one.
fn surest(found: &Detections) -> Option<(&str, Option<&str>, f32)> {
    found.detections.iter().find_map(|one| {
        let scientific_name = one.scientific_name.as_deref()?;
        Some((scientific_name, one.species.as_deref(), one.species_confidence?))
    })
}

fn named(asking: &Asking, scientific_name: &str, common_name: Option<&str>) -> Result<String> {
    let found = asking.catalogue.named(scientific_name, common_name);
    let unknown = || Error::Unmet(format!("the model that answers now has no {scientific_name}: give `species`"));
    found.map(|species| species.id.clone()).ok_or_else(unknown)
}

fn repeated(known: Seen, digest: &str, key: &Key) -> Result<Recorded> {
    if known.is_deleted {
        return Err(Error::Gone(format!(
            "the sighting of the key `{key}` was deleted: take a new key to record it again"
        )));
    }
    if known.digest != digest {
        let reason =
            format!("the key `{key}` was sent with another sighting before: take a new key for a new sighting");
        return Err(Error::Conflict(reason));
    }
    Ok(Recorded { seen: known, is_new: false })
}

fn digest(request: &Request) -> Result<String> {
    let content = Content {
        species: request.species.as_deref(),
        detection: request.detection.as_deref(),
        picture: request.picture.as_ref().map(|bytes| sha256(bytes)),
        seen_at: request.seen_at.map(Moment::millis),
        place: request.place,
    };
    let text = serde_json::to_vec(&content).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(sha256(&text))
}

/// The media type of a photograph, from its bytes.
fn check_picture(bytes: &Bytes) -> Result<String> {
    if bytes.len() > PICTURE_BYTES {
        return Err(Error::TooLarge { what: "the photograph".to_owned(), limit: format!("{PICTURE_BYTES} bytes") });
    }
    Ok(format!("image/{}", photograph(bytes)?.name()))
}
