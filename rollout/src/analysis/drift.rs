//! How far two distributions are from each other.

use super::Histogram;

/// The normal deviate that is exceeded once in 1,000 times.
const ONE_IN_A_THOUSAND: f64 = 3.090_232;

/// How far two distributions are from each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The population stability index.
    pub index: f64,
    /// What the index of two samples of these sizes exceeds by chance once in 1,000 times, though they come from the same
    /// distribution. Infinite where one is empty.
    pub noise: f64,
}

/// The population stability index `Σ (aᵢ − bᵢ) ln(aᵢ / bᵢ)` over the shares of the buckets (Siddiqi, Credit Risk Scorecards,
/// 2006; the divergence of Jeffreys, 1946). Buckets that are empty in both do not count; half a value is added to the
/// others, so that no share is 0.
///
/// By chance it is distributed like `(1/n + 1/m) χ²` with one degree of freedom less than there are buckets (Yurdakul and
/// Naranjo, Statistical properties of the population stability index, Journal of Risk Model Validation 14(4), 2020).
pub fn drift(before: &Histogram, after: &Histogram) -> Drift {
    let (n, m) = (before.total(), after.total());
    if n == 0 || m == 0 {
        return Drift { index: 0.0, noise: f64::INFINITY };
    }
    let pairs: Vec<(f64, f64)> = before
        .counts()
        .iter()
        .zip(after.counts())
        .filter(|(before, after)| **before + **after > 0)
        .map(|(before, after)| (*before as f64 + 0.5, *after as f64 + 0.5))
        .collect();
    let (all_before, all_after) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    let index = pairs
        .iter()
        .map(|(before, after)| (before / all_before, after / all_after))
        .map(|(before, after)| (after - before) * (after / before).ln())
        .sum();
    let freedom = pairs.len().saturating_sub(1) as f64;
    Drift { index, noise: chi_square(freedom) * (1.0 / n as f64 + 1.0 / m as f64) }
}

/// What a χ² exceeds once in 1,000 times, by the approximation of Wilson and Hilferty (1931); within 4 percent for one
/// degree of freedom, and nearer for more.
fn chi_square(freedom: f64) -> f64 {
    // With one bucket there is nothing in which two distributions could differ but their sizes.
    if freedom == 0.0 {
        return 0.0;
    }
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + ONE_IN_A_THOUSAND * part.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(counts: &[u64]) -> Histogram {
        let bounds: Vec<f64> = (1..counts.len()).map(|bound| bound as f64).collect();
        Histogram::of(&bounds, counts)
    }

    #[test]
    fn the_index_is_that_of_the_books() {
        // Shares 0.5, 0.5 and 0.8, 0.2: 0.3 ln 1.6 + 0.3 ln 2.5.
        let found = drift(&of(&[50_000, 50_000]), &of(&[80_000, 20_000])).index;
        assert!((found - 0.415_888).abs() < 1e-3, "{found}");
        assert!(drift(&of(&[30, 70]), &of(&[300, 700])).index < 1e-4);
        assert!(drift(&of(&[1000, 0, 0]), &of(&[0, 0, 1000])).index > 5.0);
        assert_eq!(drift(&of(&[0, 0]), &of(&[5, 5])).noise, f64::INFINITY);
    }

    #[test]
    fn chance_is_that_of_the_tables() {
        for (freedom, expected) in [(1.0, 10.828), (2.0, 13.816), (5.0, 20.515), (10.0, 29.588), (20.0, 45.315)] {
            let found = chi_square(freedom);
            assert!((found / expected - 1.0).abs() < 0.04, "{freedom}: {found}");
        }
    }

    proptest! {
        #[test]
        fn it_is_never_negative_and_the_same_both_ways(
            one in proptest::collection::vec(0_u64..1000, 6),
            other in proptest::collection::vec(0_u64..1000, 6),
        ) {
            let (there, back) = (drift(&of(&one), &of(&other)), drift(&of(&other), &of(&one)));
            prop_assert!(there.index >= 0.0);
            prop_assert!((there.index - back.index).abs() < 1e-9);
        }
    }
}
