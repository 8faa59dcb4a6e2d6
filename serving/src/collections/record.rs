//! From what was sent to a sighting that is kept.

use std::io::Cursor;

use bytes::Bytes;
use detector::media::MediaType;
use serde::Serialize;

use super::ids::shown;
use super::person::Person;
use super::place::Place;
use super::recognise::{DetectError, Guess};
use super::store::{Added, NewSighting, Seen, Source};
use super::{Collections, Error, Key, Moment, Result};

/// Bytes of a photograph.
pub(crate) const PICTURE_BYTES: usize = 20 * 1024 * 1024;
/// Pixels of a photograph.
const PIXELS: u64 = 100_000_000;

/// What a request says of a sighting. At least one of the first three is there.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// None if the client gave none: then nothing is known of repeats.
    pub(crate) key: Option<Key>,
    pub(crate) species: Option<String>,
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

impl Collections {
    /// Records a sighting, once for each key.
    pub(crate) async fn record(&self, person: &Person, request: Request) -> Result<Recorded> {
        if request.species.is_none() && request.detection.is_none() && request.picture.is_none() {
            let reason = "what was seen is missing: give `species`, `detection` or a photograph";
            return Err(Error::Unmet(reason.to_owned()));
        }
        let key = request.key.clone().unwrap_or_else(Key::random);
        let digest = digest(&request)?;
        if let Some(known) = self.store.sighting_of_key(&person.id, &key).await? {
            return repeated(known, &digest, &key);
        }
        let new = self.recognise(person, request, key.clone(), digest.clone()).await?;
        match self.store.add_sighting(person, new).await? {
            Added::New(seen) => Ok(Recorded { seen, is_new: true }),
            Added::Known(known) => repeated(known, &digest, &key),
        }
    }

    /// Finds out what was seen, and writes the photograph.
    async fn recognise(&self, person: &Person, request: Request, key: Key, digest: String) -> Result<NewSighting> {
        let mut picture = request.picture;
        let media_type = picture.as_ref().map(check_picture).transpose()?;
        let mut media_type = media_type.map(str::to_owned);
        let named = request.species.as_deref().map(|id| self.species_id(id)).transpose()?;
        let (source, guess) = if let Some(id) = &request.detection {
            let found = self.detections.find(&person.id, id).await.ok_or_else(|| {
                Error::Unmet(format!("there is no detection `{}` any more: send the photograph", shown(id)))
            })?;
            if picture.is_none()
                && let Some(bytes) = found.picture
            {
                media_type = Some(check_picture(&bytes)?.to_owned());
                picture = Some(bytes);
            }
            (Source::Detection, found.guess)
        } else if let (Some(bytes), None) = (&picture, &named) {
            (Source::Photograph, self.detect.detect(bytes.clone()).await.map_err(refused)?)
        } else {
            (Source::Named, None)
        };
        let (species, source, guess) = match named {
            // The person knows better.
            Some(species) => (species, Source::Named, None),
            None => {
                let unknown = || Error::Unmet("no species was recognised: say which it is in `species`".to_owned());
                let guess = guess.ok_or_else(unknown)?;
                (self.species_of(&guess)?, source, Some(guess))
            }
        };
        let is_leaf = self.catalogue.get(&species).is_some_and(|species| species.is_leaf);
        let upload = match (picture, media_type) {
            (Some(bytes), Some(media_type)) => Some(self.store.upload(bytes, &media_type).await?),
            _ => None,
        };
        Ok(NewSighting {
            key,
            digest,
            species,
            is_leaf,
            source,
            confidence: guess.as_ref().map(|guess| guess.confidence.clamp(0.0, 1.0)),
            model: guess.map(|guess| guess.model),
            detection: request.detection,
            picture: upload,
            seen_at: request.seen_at,
            place: request.place,
        })
    }

    /// Checks the id of a species that a client gives.
    pub(crate) fn species_id(&self, id: &str) -> Result<String> {
        let unknown = || Error::Unmet(format!("there is no species `{}`: /v1/species lists them", shown(id)));
        self.catalogue.get(id).map(|species| species.id.clone()).ok_or_else(unknown)
    }

    fn species_of(&self, guess: &Guess) -> Result<String> {
        let found = self.catalogue.named(&guess.scientific_name, guess.common_name.as_deref());
        let unknown =
            || Error::Unmet(format!("{} is no species of this server: give `species`", guess.scientific_name));
        found.map(|species| species.id.clone()).ok_or_else(unknown)
    }
}

fn repeated(known: Seen, digest: &str, key: &Key) -> Result<Recorded> {
    if known.is_deleted {
        return Err(Error::Deleted(key.to_string()));
    }
    if known.digest != digest {
        return Err(Error::KeyTaken(key.to_string()));
    }
    Ok(Recorded { seen: known, is_new: false })
}

fn digest(request: &Request) -> Result<String> {
    let content = Content {
        species: request.species.as_deref(),
        detection: request.detection.as_deref(),
        picture: request.picture.as_ref().map(|bytes| super::store::sha256(bytes)),
        seen_at: request.seen_at.map(Moment::millis),
        place: request.place,
    };
    let text = serde_json::to_vec(&content).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(super::store::sha256(&text))
}

/// The media type of a photograph, from its bytes.
fn check_picture(bytes: &Bytes) -> Result<&'static str> {
    if bytes.len() > PICTURE_BYTES {
        return Err(Error::TooLarge { what: "the photograph", limit: PICTURE_BYTES });
    }
    let kind = MediaType::sniff(bytes).map_err(|error| Error::Unsupported(error.to_string()))?;
    let name = match kind {
        MediaType::Jpeg => "image/jpeg",
        MediaType::Png => "image/png",
        MediaType::Webp => "image/webp",
        MediaType::Tiff => "image/tiff",
        MediaType::Mp4 | MediaType::Mov | MediaType::Avi => {
            return Err(Error::Unsupported("a sighting has a photograph: a video is not taken".to_owned()));
        }
    };
    let broken = |error: &dyn std::fmt::Display| Error::Unmet(format!("the photograph cannot be read: {error}"));
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let (width, height) = reader.map_err(|error| broken(&error))?.into_dimensions().map_err(|error| broken(&error))?;
    if u64::from(width) * u64::from(height) > PIXELS {
        return Err(Error::Unmet(format!("the photograph has more than {PIXELS} pixels: send a smaller one")));
    }
    Ok(name)
}

fn refused(error: DetectError) -> Error {
    match error {
        DetectError::Picture(reason) => Error::Unmet(reason),
        DetectError::Busy { retry_after } => Error::Busy { retry_after },
        DetectError::Failed(reason) => Error::Detector(reason),
    }
}
