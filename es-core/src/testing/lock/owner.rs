//! Who stores something.

use std::fmt;

/// Who stores something, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Aggregate(&'static str),
    /// A process: its timeouts.
    Process(&'static str),
    Rows(&'static str),
    Metadata(&'static str),
}

/// Begins the keys of all but aggregates, whose names cannot begin with it.
const OTHERS: char = '$';

impl Owner {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aggregate(name) | Self::Process(name) | Self::Rows(name) | Self::Metadata(name) => name,
        }
    }

    /// The key in the file.
    pub(super) fn key(self) -> String {
        match self {
            Self::Aggregate(name) => name.to_owned(),
            Self::Process(name) => format!("{OTHERS}process {name}"),
            Self::Rows(name) => format!("{OTHERS}rows {name}"),
            Self::Metadata(name) => format!("{OTHERS}metadata {name}"),
        }
    }

    /// What a key of the file stands for.
    pub(super) fn described(key: &str) -> String {
        match key.strip_prefix(OTHERS).and_then(|key| key.split_once(' ')) {
            Some((what, name)) => format!("the {what} `{name}`"),
            None => format!("the aggregate `{key}`"),
        }
    }

    /// The problem of two types with one name.
    pub(super) fn is_twice(self) -> String {
        match self {
            Self::Aggregate(name) => format!(
                "two aggregates have the name `{name}`: their streams would be mixed up; give one of them another name"
            ),
            _ => format!("{self} are in the test twice: give one of them another name"),
        }
    }

    /// What to do instead of a change that makes `name` in version `number` unreadable.
    pub(super) fn advice(self, name: &str, number: u32) -> String {
        match self {
            Self::Aggregate(_) | Self::Process(_) => {
                let next = number + 1;
                format!(
                    "keep the old struct as `{name}V{number}`, and write `#[event(version = {next}, previous = {name}V{number})]` \
                     on the new one, with a `From<{name}V{number}>`."
                )
            }
            Self::Rows(_) => {
                "keep old rows readable with `#[serde(default)]` or `#[serde(alias = …)]`, or rebuild the \
                              projection in the same release."
                    .to_owned()
            }
            Self::Metadata(_) => {
                "keep old values readable with `#[serde(default)]` or `#[serde(alias = …)]`, or give the \
                                  new type another key."
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(name) => write!(f, "`{name}`"),
            Self::Process(name) => write!(f, "the process `{name}`"),
            Self::Rows(name) => write!(f, "the rows `{name}`"),
            Self::Metadata(name) => write!(f, "the metadata `{name}`"),
        }
    }
}
