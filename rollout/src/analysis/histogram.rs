//! Counts between bounds, as Prometheus has them.

/// Counts of values between bounds; the last is of values above all bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Histogram {
    /// Of bounds that grow, and one more count than bounds.
    pub fn of(bounds: &[f64], counts: &[u64]) -> Self {
        let mut counts = counts.to_vec();
        counts.resize(bounds.len() + 1, 0);
        Self { bounds: bounds.to_vec(), counts }
    }

    /// Of cumulative counts, as Prometheus writes them: values up to and with each bound, of which the last is infinite.
    /// Bounds in any order.
    pub fn of_cumulative(mut buckets: Vec<(f64, u64)>) -> Self {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut before = 0;
        let mut counts: Vec<u64> = Vec::with_capacity(buckets.len());
        for (_, up_to) in &buckets {
            counts.push(up_to.saturating_sub(before));
            before = *up_to;
        }
        let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
        Self::of(&bounds, &counts)
    }

    /// All values.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The counts, the last of values above all bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// What has come since `before`; all of it where `before` is larger, since then the counting began anew.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let began_anew =
            before.bounds != self.bounds || before.counts.iter().zip(&self.counts).any(|(before, now)| before > now);
        if began_anew {
            return self.clone();
        }
        let counts = self.counts.iter().zip(&before.counts).map(|(now, before)| now - before).collect();
        Self { bounds: self.bounds.clone(), counts }
    }

    /// Adds the values of another with the same bounds. One with other bounds, as another version of the program has them,
    /// is left out, unless this one is empty.
    pub fn add(&mut self, other: &Self) {
        if self.total() == 0 && self.bounds != other.bounds {
            *self = other.clone();
        } else if self.bounds == other.bounds {
            for (count, more) in self.counts.iter_mut().zip(&other.counts) {
                *count += more;
            }
        }
    }

    /// The value below which this share of all lies, as Prometheus' `histogram_quantile` finds it: linear within a bucket,
    /// and the greatest bound for what lies above all. None of nothing.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0.0;
        for (index, count) in self.counts.iter().enumerate() {
            let up_to = below + *count as f64;
            if up_to >= rank && *count > 0 {
                let lower = if index == 0 { 0.0 } else { self.bounds[index - 1] };
                let Some(upper) = self.bounds.get(index) else { return self.bounds.last().copied() };
                return Some(lower + (upper - lower) * (rank - below) / *count as f64);
            }
            below = up_to;
        }
        self.bounds.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let histogram = Histogram::of_cumulative(vec![(f64::INFINITY, 100), (0.1, 50), (1.0, 100), (0.5, 90)]);
        assert_eq!(histogram.counts(), [50, 40, 10, 0]);
        assert_eq!(histogram.quantile(0.5), Some(0.1));
        let p99 = histogram.quantile(0.99).unwrap_or_default();
        assert!((p99 - 0.95).abs() < 1e-9, "{p99}");
        let above = Histogram::of(&[0.1], &[0, 7]);
        assert_eq!(above.quantile(0.99), Some(0.1), "the greatest bound that is known");
        assert_eq!(Histogram::default().quantile(0.99), None);
    }

    #[test]
    fn a_count_that_begins_anew_is_taken_as_it_is() {
        let before = Histogram::of(&[1.0], &[10, 5]);
        assert_eq!(Histogram::of(&[1.0], &[12, 5]).since(&before), Histogram::of(&[1.0], &[2, 0]));
        let anew = Histogram::of(&[1.0], &[3, 0]);
        assert_eq!(anew.since(&before), anew);
        let mut sum = Histogram::default();
        sum.add(&before);
        sum.add(&anew);
        sum.add(&Histogram::of(&[2.0], &[100, 0]));
        assert_eq!(sum, Histogram::of(&[1.0], &[13, 5]));
    }
}
