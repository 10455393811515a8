//! Consecutive `token` frames, written together.

use crate::{ServerFrame, TextPieces, TurnId};

/// The `token` frames of consecutive pieces of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenFrames {
    /// Their turn.
    pub turn_id: TurnId,
    /// The index of the first frame.
    pub first_index: u64,
    /// One for each frame.
    pub pieces: TextPieces,
}

impl TokenFrames {
    /// The frames, one by one.
    pub fn frames(&self) -> impl Iterator<Item = ServerFrame> {
        let pieces = (self.first_index..).zip(self.pieces.iter());
        pieces.map(|(index, piece)| ServerFrame::Token {
            turn_id: self.turn_id,
            index,
            text: piece.to_owned(),
        })
    }

    /// The frames in the JSON dialect, one after the other, and where each of them ends.
    pub fn to_json(&self) -> (String, Vec<usize>) {
        const FIELDS_BYTES: usize = 64;
        let turn_id = serde_json::to_string(&self.turn_id).expect("an id can be written as JSON");
        let start = format!(r#"{{"type":"token","turn_id":{turn_id},"index":"#);
        let bytes = self.pieces.len() + self.pieces.count() * FIELDS_BYTES;
        let mut json = Vec::with_capacity(bytes);
        let mut ends = Vec::with_capacity(self.pieces.count());
        for (index, piece) in (self.first_index..).zip(self.pieces.iter()) {
            json.extend_from_slice(start.as_bytes());
            write(&mut json, &index);
            json.extend_from_slice(br#","token":"#);
            write(&mut json, piece);
            json.push(b'}');
            ends.push(json.len());
        }
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        (json, ends)
    }
}

fn write<T: serde::Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(json, value).expect("numbers and texts can be written as JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The frames are written by hand here, and must be the same as if each were written alone.
        #[test]
        fn frames_written_together_equal_frames_written_alone(
            turn in 1..u32::MAX,
            first_index in 0..u64::MAX - 10,
            pieces in proptest::collection::vec("\\PC*|[\"\\\\\n\0\u{7f}é👋]*", 0..6),
        ) {
            let together = TokenFrames {
                turn_id: TurnId(turn),
                first_index,
                pieces: pieces.into_iter().collect(),
            };
            let (json, ends) = together.to_json();
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let written: Vec<_> =
                starts.zip(&ends).map(|(start, end)| json[start..*end].to_owned()).collect();
            let alone: Vec<_> = together.frames().map(|frame| frame.to_json()).collect();
            prop_assert_eq!(written, alone);
            prop_assert_eq!(ends.last().copied().unwrap_or(0), json.len());
        }
    }
}
