//! Medians, percentiles and ratios. Pure; every function says what an empty input gives.

/// Middle value, of an even count the mean of the two middle ones; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some((lower + upper) / 2.0)
}

/// The smallest value that `percent` of the values do not exceed (nearest rank); `None` of nothing.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Median with the range it was taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { median: median(values)?, low: *sorted.first()?, high: *sorted.last()? })
    }
}

/// Values over their references, position by position. A round in which one of the two is missing, or in which
/// the reference is nothing, gives no ratio.
pub(crate) fn ratios(values: &[Option<f64>], references: &[Option<f64>]) -> Vec<f64> {
    values
        .iter()
        .zip(references)
        .filter_map(|(value, reference)| match (value, reference) {
            (Some(value), Some(reference)) if *reference > 0.0 => Some(value / reference),
            _ => None,
        })
        .collect()
}

/// Parts of a whole in per cent, largest first; nothing when the whole is nothing.
pub(crate) fn shares(parts: &[f64]) -> Vec<f64> {
    let whole: f64 = parts.iter().sum();
    if whole <= 0.0 {
        return Vec::new();
    }
    let mut shares = sorted(&parts.iter().map(|part| part * 100.0 / whole).collect::<Vec<_>>());
    shares.reverse();
    shares
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_middles() {
        let check = |values: &[f64], expected| assert_eq!(median(values), expected, "{values:?}");
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 4.0], Some(4.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        let check = |values: &[u64], percent, expected| assert_eq!(percentile(values, percent), expected);
        check(&values, 50, Some(50));
        check(&values, 99, Some(99));
        check(&values, 100, Some(100));
        check(&[7], 99, Some(7));
        check(&[7, 8], 50, Some(7));
        check(&[7], 0, Some(7));
        check(&[], 50, None);
    }

    #[test]
    fn a_spread_keeps_both_ends() {
        assert_eq!(Spread::of(&[2.0, 8.0, 3.0]), Some(Spread { median: 3.0, low: 2.0, high: 8.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_ratio_needs_both_sides_of_its_round() {
        let values = [Some(2.0), None, Some(9.0), Some(1.0)];
        let references = [Some(4.0), Some(1.0), Some(3.0), Some(0.0)];
        assert_eq!(ratios(&values, &references), vec![0.5, 3.0]);
    }

    #[test]
    fn shares_come_largest_first_and_make_a_hundred() {
        assert_eq!(shares(&[1.0, 3.0]), vec![75.0, 25.0]);
        assert_eq!(shares(&[0.0, 0.0]), Vec::<f64>::new());
    }
}
