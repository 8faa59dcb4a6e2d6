//! Places, and the grid that blurs them.
//!
//! The grid has 2000 bands of latitude, 0.09 degrees high (10.0 km), each cut into whole cells of equal width, as near to
//! 10 km as a whole number of cells allows; the bands at the poles are a handful of cells each. A blurred place is the
//! middle of its cell: the same for every point of the cell and at every request, so that nothing is gained by asking often.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Error, Result};

/// Height of a cell in degrees.
const CELL_DEGREES: f64 = 0.09;
/// Bands from pole to pole.
const BANDS: i64 = 2000;
/// Half of a cell's diagonal, rounded up, in metres: the accuracy of a blurred place.
pub(crate) const CELL_ACCURACY_M: f64 = 8000.0;
/// The Earth's mean radius in metres (IUGG).
const EARTH_M: f64 = 6_371_008.8;
/// Nothing is less accurate than half way around the Earth.
const WORST_ACCURACY_M: f64 = 20_100_000.0;

/// A place on Earth (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Degrees north.
    #[schema(minimum = -90, maximum = 90)]
    pub latitude: f64,
    /// Degrees east.
    #[schema(minimum = -180, maximum = 180)]
    pub longitude: f64,
    /// How far the true place may be away, in metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 20_100_000)]
    pub accuracy_m: Option<f64>,
}

impl Place {
    /// Refuses what lies nowhere.
    ///
    /// # Errors
    /// Which number is wrong.
    pub(crate) fn check(self) -> Result<Self> {
        let refused = |what: &str| Err(Error::Unmet(what.to_owned()));
        if !(-90.0..=90.0).contains(&self.latitude) {
            return refused("`latitude` must be a number from -90 to 90");
        }
        if !(-180.0..=180.0).contains(&self.longitude) {
            return refused("`longitude` must be a number from -180 to 180");
        }
        if self.accuracy_m.is_some_and(|metres| !(0.0..=WORST_ACCURACY_M).contains(&metres)) {
            return refused("`accuracy_m` must be a number of metres from 0 to 20100000");
        }
        Ok(self)
    }

    /// The middle of the cell that the place lies in, with the cell's accuracy.
    pub(crate) fn blurred(self) -> Self {
        let band = (((self.latitude + 90.0) / CELL_DEGREES).floor() as i64).clamp(0, BANDS - 1);
        let latitude = (band as f64 + 0.5) * CELL_DEGREES - 90.0;
        let cells = cells_of(latitude);
        // 180 degrees east and west are the same meridian.
        let cell = (((self.longitude + 180.0) / 360.0 * cells as f64).floor() as i64).rem_euclid(cells);
        let longitude = (cell as f64 + 0.5) * 360.0 / cells as f64 - 180.0;
        let rounded = |degrees: f64| (degrees * 1e6).round() / 1e6;
        Self { latitude: rounded(latitude), longitude: rounded(longitude), accuracy_m: Some(CELL_ACCURACY_M) }
    }

    /// As a point of the unit sphere.
    pub(crate) fn point(self) -> [f64; 3] {
        let (latitude, longitude) = (self.latitude.to_radians(), self.longitude.to_radians());
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    }
}

/// Squared length of the straight line between two points of the unit sphere whose places are `metres` apart.
pub(crate) fn squared_chord(metres: f64) -> f64 {
    let half = (metres / EARTH_M / 2.0).min(std::f64::consts::FRAC_PI_2).sin();
    4.0 * half * half
}

/// Cells of the band with this middle.
fn cells_of(latitude: f64) -> i64 {
    ((360.0 / CELL_DEGREES * latitude.to_radians().cos()).round() as i64).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: f64, longitude: f64) -> Place {
        Place { latitude, longitude, accuracy_m: Some(3.0) }
    }

    fn metres(one: Place, other: Place) -> f64 {
        let (a, b) = (one.point(), other.point());
        let squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        2.0 * EARTH_M * (squared.sqrt() / 2.0).min(1.0).asin()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Any two points of a cell give one answer: it tells no more than the cell.
        #[test]
        fn all_points_of_a_cell_are_shown_as_one(
            latitude in -90.0..=90.0, longitude in -180.0..=180.0, up in 0.001..0.999, along in 0.001..0.999,
        ) {
            let shown = at(latitude, longitude).blurred();
            let width = 360.0 / cells_of(shown.latitude) as f64;
            let other = at(
                shown.latitude + (up - 0.5) * CELL_DEGREES,
                shown.longitude + (along - 0.5) * width,
            );
            prop_assert_eq!(other.blurred(), shown);
            prop_assert_eq!(shown.blurred(), shown, "blurring again changes nothing");
        }

        /// Cells are as large as promised: a place is no nearer to be had, and no farther than the accuracy says.
        #[test]
        fn cells_are_about_ten_kilometres(latitude in -89.0..89.0, longitude in -180.0..=180.0) {
            let place = at(latitude, longitude);
            let shown = place.blurred();
            prop_assert!(metres(place, shown) <= CELL_ACCURACY_M, "{}", metres(place, shown));
            let width = 360.0 / cells_of(shown.latitude) as f64;
            let (west, east) = (at(shown.latitude, 0.0), at(shown.latitude, width));
            prop_assert!((9_000.0..11_000.0).contains(&metres(west, east)), "{}", metres(west, east));
            let (south, north) = (at(shown.latitude - 0.045, 0.0), at(shown.latitude + 0.045, 0.0));
            prop_assert!((9_990.0..10_020.0).contains(&metres(south, north)));
        }

        #[test]
        fn nearness_is_the_chord(latitude in -90.0..=90.0, longitude in -180.0..=180.0, other in -90.0..=90.0) {
            let (one, other) = (at(latitude, longitude), at(other, 0.0));
            let squared: f64 = one.point().iter().zip(other.point()).map(|(a, b)| (a - b).powi(2)).sum();
            prop_assert!((squared - squared_chord(metres(one, other))).abs() < 1e-9);
        }
    }

    #[test]
    fn the_edges_of_the_map_have_cells() {
        assert_eq!(at(90.0, 0.0).blurred().latitude, 89.955);
        assert_eq!(at(-90.0, 12.0).blurred().latitude, -89.955);
        assert_eq!(at(10.0, 180.0).blurred(), at(10.0, -180.0).blurred());
        assert_eq!(at(-0.0, 0.0).blurred(), at(0.0, 0.0).blurred());
        assert_eq!(at(0.0, 0.0).blurred().accuracy_m, Some(CELL_ACCURACY_M), "the exact accuracy would tell");
    }

    #[test]
    fn nowhere_is_refused() {
        for (latitude, longitude) in [(90.1, 0.0), (f64::NAN, 0.0), (0.0, 180.5), (0.0, f64::INFINITY), (-1e308, 0.0)] {
            at(latitude, longitude).check().unwrap_err();
        }
        Place { accuracy_m: Some(f64::NAN), ..at(0.0, 0.0) }.check().unwrap_err();
        Place { accuracy_m: Some(-1.0), ..at(0.0, 0.0) }.check().unwrap_err();
        at(-90.0, 180.0).check().unwrap();
    }
}
