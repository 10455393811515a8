//! The list of all frames with their fields, as the types themselves define them.
//!
//! Each frame is described once: events in `event.rs`, deltas and notices in `server_frame.rs`,
//! clients' frames in `client_frame.rs`. The lists here follow from those descriptions, and the check
//! of `docs/protocol.md` follows from the lists.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor, value::Error},
};

/// One type of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameDescription {
    /// The frame's `type`.
    pub name: &'static str,
    /// Whether it is an event, a delta, a notice, or a frame of clients.
    pub kind: FrameKind,
    /// The names of its fields on the wire, without those that all frames of its kind have.
    pub fields: &'static [&'static str],
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A fact: stored, numbered, and sent again in a replay.
    Event,
    /// A partial update to an answer in progress: not stored.
    Delta,
    /// It concerns one connection or the service: neither stored nor numbered.
    Notice,
    /// A request of a client.
    Request,
}

/// The names of the fields of `T` on the wire. `None` unless `T` is read as a struct with named
/// fields, none of them flattened.
pub(crate) fn fields<T: for<'de> Deserialize<'de>>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // The probe only looks, so reading always fails.
    T::deserialize(Probe(&mut fields)).err()?;
    fields
}

/// A source of data that has none, and records which fields are requested of it.
struct Probe<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("a probe has no data"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        Err(Error::custom("a probe has no data"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
