//! What one has seen.

use std::collections::{HashMap, HashSet};

use axum::Json;

use super::extract::Asking;
use super::problems::Problems;
use super::views::{
    BestPictureView, CollectedView, CollectionView, ProgressCount, ProgressView, SpeciesName, picture_of,
};
use crate::Result;
use crate::collections::store::BestPicture;

/// Shows what one has seen: first, last, how often, the best photograph, and how much of each class, order and family.
#[utoipa::path(
    get, path = "/v1/collection", operation_id = "showCollection", tag = "collections",
    responses((status = 200, description = "The collection.", body = CollectionView), Problems)
)]
pub(super) async fn show(asking: Asking) -> Result<Json<CollectionView>> {
    let catalogue = &asking.catalogue;
    let (tallies, pictures) = tokio::try_join!(
        asking.collections.store.tallies(&asking.person.id),
        asking.collections.store.best_pictures(&asking.person.id)
    )?;
    let mut pictures: HashMap<String, BestPicture> =
        pictures.into_iter().map(|picture| (picture.species.clone(), picture)).collect();
    let is_leaf = |id: &str| catalogue.get(id).is_some_and(|species| species.is_leaf);
    let seen: HashSet<String> =
        tallies.iter().filter(|tally| is_leaf(&tally.species)).map(|tally| tally.species.clone()).collect();
    let progress = catalogue.groups().into_iter().map(|group| ProgressView {
        rank: group.species.rank,
        taxon: SpeciesName::of(catalogue, &group.species.id),
        count: ProgressCount {
            seen: group.leaves.iter().filter(|leaf| seen.contains(*leaf)).count(),
            known: group.leaves.len(),
        },
    });
    let species = tallies.iter().map(|tally| CollectedView {
        species: SpeciesName::of(catalogue, &tally.species),
        collectable: is_leaf(&tally.species),
        first: tally.first,
        last: tally.last,
        count: tally.count,
        best_picture: pictures.remove(&tally.species).map(|best| BestPictureView {
            picture: picture_of(&best.sighting),
            sighting: best.sighting,
            confidence: best.confidence,
        }),
    });
    Ok(Json(CollectionView {
        total: ProgressCount { seen: seen.len(), known: catalogue.leaf_count() },
        species: species.collect(),
        progress: progress.collect(),
    }))
}
