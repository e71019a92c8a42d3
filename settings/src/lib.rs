//! How a configuration is read: what is independent of the format that a program reads, and the same for each of them.
//!
//! From text to checked values in three steps, one file each: [`yaml`] makes a tree that knows its places, [`read`]
//! makes typed values out of it by what [`section!`] declares, and the program decides what needs more than one value,
//! with [`Names`] and [`address()`] for what all of them ask. Each step goes on after a mistake, so the result is a
//! value or *all* [`Mistakes`], each with its place and a hint. The JSON schema comes out of the same declarations
//! ([`schema`]).
//!
//! serde's derive would read, too, but it stops at the first mistake and forgets where it stood (docs/adr/0005).

pub mod yaml;

mod declare;
mod read;

mod address;
mod door;
mod names;
mod scalar;

mod mistake;
mod nearest;

mod file;

pub use serde_json::Value as Json;

pub use self::address::{Address, Resolve, address, is_host_name};
pub use self::door::{
    AbsolutePath, Admin, AdminAddress, AdminPlace, AdminWritten, Mode, SOCKET_PATH_BYTES_MAX, WithoutToken,
    absolute, admin, is_of_this_machine,
};
pub use self::file::{schema, text_of};
pub use self::mistake::{Mistake, Mistakes, Place, quoted};
pub use self::names::Names;
pub use self::nearest::nearest;
pub use self::read::{
    At, Elsewhere, Entries, List, Properties, Read, Scalar, Section, Shown, Wrong, described, patterned,
    scalar, section_schema, unexpected,
};
pub use self::scalar::{
    Choice, Count, Lasting, Level, Part, Rate, Reference, Weight, duration, millis, seconds, word,
};
pub use self::yaml::{Entry, Node, Value};
