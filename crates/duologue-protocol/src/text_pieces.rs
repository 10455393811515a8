//! Consecutive pieces of text in one buffer.

use std::ops::Deref;

/// Pieces of text that belong together and keep their boundaries. None of them is empty.
///
/// A single piece has no other allocation than its text. It dereferences to the whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPieces {
    text: String,
    /// Where each piece but the last ends.
    inner_ends: Vec<usize>,
}

impl TextPieces {
    /// Appends a piece, unless it is empty.
    pub fn push(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.inner_ends.push(self.text.len());
        }
        self.text.push_str(piece);
    }

    /// How many pieces there are.
    pub fn count(&self) -> usize {
        self.inner_ends.len() + usize::from(!self.text.is_empty())
    }

    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let last = (!self.text.is_empty()).then_some(self.text.len());
        let mut start = 0;
        self.inner_ends
            .iter()
            .copied()
            .chain(last)
            .map(move |end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    /// Keeps as many whole characters as fit into `bytes_max`.
    pub fn truncate(&mut self, bytes_max: usize) {
        self.text.truncate(self.text.floor_char_boundary(bytes_max));
        let inner = self
            .inner_ends
            .partition_point(|end| *end < self.text.len());
        self.inner_ends.truncate(inner);
    }
}

impl Deref for TextPieces {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// A single piece.
impl From<String> for TextPieces {
    fn from(text: String) -> Self {
        Self {
            text,
            inner_ends: Vec::new(),
        }
    }
}

/// A single piece.
impl From<&str> for TextPieces {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl<S: AsRef<str>> FromIterator<S> for TextPieces {
    fn from_iter<I: IntoIterator<Item = S>>(pieces: I) -> Self {
        let mut all = Self::default();
        pieces
            .into_iter()
            .for_each(|piece| all.push(piece.as_ref()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(of: &[&str]) -> TextPieces {
        of.iter().collect()
    }

    #[test]
    fn pieces_keep_their_boundaries_and_empty_ones_vanish() {
        let both = pieces(&["", "Hel", "", "lo", ""]);
        assert_eq!(both.iter().collect::<Vec<_>>(), ["Hel", "lo"]);
        assert_eq!((both.count(), &*both), (2, "Hello"));
        assert_ne!(both, TextPieces::from("Hello"));
        let none = pieces(&[]);
        assert_eq!((none.count(), none.iter().count()), (0, 0));
        assert_eq!(none, TextPieces::from(""));
    }

    #[test]
    fn pieces_are_cut_between_characters_wherever_the_limit_falls() {
        for bytes_max in 0..12 {
            let mut cut = pieces(&["aé", "👋b", "c"]);
            cut.truncate(bytes_max);
            let expected: &[&str] = match bytes_max {
                0 => &[],
                1 | 2 => &["a"],
                3..=6 => &["aé"],
                7 => &["aé", "👋"],
                8 => &["aé", "👋b"],
                _ => &["aé", "👋b", "c"],
            };
            assert_eq!(cut, pieces(expected), "{bytes_max}");
        }
    }
}
