//! What the client says: records and rows as tables for people, as plain columns for pipes, or as JSON.
//!
//! A [`Record`] names its fields as the protocol does, with their units; all forms come from that one
//! description. Texts that strangers chose are escaped here and nowhere else.

// What is shown.
mod happenings;
mod records;
mod value;
// How it looks.
mod escape;
mod json;
mod table;
mod units;
// Where it goes.
mod printer;

pub use escape::{name_octets, name_text, safe};
pub use happenings::{Piped, Shown, shown};
pub use json::to_json;
pub use printer::{Colour, Format, Printer, Rows, Sink, SinkError};
pub(crate) use records::{metric_of_version_1, setting_in_list};
pub use units::{bytes_for_people, duration_for_people, time_text};
pub use value::{Field, Place, Record, Value};
