//! Medians, ranges and percentiles.

use std::fmt;

/// The median of some figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of those that are numbers, which a time per nothing is not; `None` without any.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = *self;
        let digits = match median {
            ..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        write!(f, "{median:.digits$} [{min:.digits$}..{max:.digits$}]")
    }
}

/// A count as a figure to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The median and the 99th percentile of times in microseconds, in milliseconds.
pub(crate) fn percentiles(micros: &mut [u32]) -> Option<(f64, f64)> {
    let last = micros.len().checked_sub(1)?;
    let mut at = |per_mille: usize| {
        let (_, value, _) = micros.select_nth_unstable(last * per_mille / 1000);
        f64::from(*value) / 1000.0
    };
    Some((at(500), at(990)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(spread.to_string(), "2.00 [1.00..3.00]");
        let even = Spread::of([1.0, 2.0].into_iter()).unwrap();
        assert_eq!(even.to_string(), "1.50 [1.00..2.00]");
        assert_eq!(Spread::of([f64::NAN].into_iter()), None);
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut micros: Vec<u32> = (0..=1000).rev().map(|number| number * 1000).collect();
        assert_eq!(percentiles(&mut micros), Some((500.0, 990.0)));
        assert_eq!(percentiles(&mut []), None);
    }
}
