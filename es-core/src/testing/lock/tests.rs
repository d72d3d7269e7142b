//! One story of an order whose events change over the years, each chapter a module.

#![allow(dead_code)] // fields are stored, not looked at

use std::fs;
use std::path::{Path, PathBuf};

use super::{Run, SchemaLock};
use crate::aggregate::Aggregate;
use crate::events::{Events, IntoEvents};
use crate::ids::{IdSource, RandomIds};

/// A file that goes with the test.
struct Lock(PathBuf);

impl Lock {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("es-core-{}", RandomIds.new_id()));
        Self(folder.join("deep/schema.json"))
    }

    fn check<A: Aggregate>(&self, samples: impl IntoEvents<A>, run: Run) -> Result<(), String> {
        SchemaLock::at(&self.0).aggregate::<A>(samples).settle(run)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("is there")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let folder = self.0.parent().and_then(Path::parent).expect("has folders");
        let _ = fs::remove_dir_all(folder);
    }
}

/// An aggregate `order` with these events.
macro_rules! order {
    ($($events:ident),*; $($key:tt)*) => {
        #[derive(es_core::Aggregate, Default)]
        #[aggregate(name = "order", id = String, events($($events),*) $($key)*)]
        pub(crate) struct Order;

        $(impl es_core::Apply<$events> for Order {
            fn apply(&mut self, _: &$events) {}
        })*
    };
}

/// A struct that events contain.
macro_rules! part {
    ($name:ident { $($field:ident: $ty:ty),* }) => {
        #[derive(Clone, Debug, PartialEq, es_core::Schema, serde::Serialize, serde::Deserialize)]
        pub(crate) struct $name {
            $(pub(crate) $field: $ty,)*
        }
    };
}

mod first {
    part!(Line { sku: String, cents: u64 });

    #[es_core::event]
    pub(crate) struct Placed {
        pub(crate) lines: Vec<Line>,
    }

    #[es_core::event]
    pub(crate) struct Cancelled {
        pub(crate) reason: String,
    }

    order!(Placed, Cancelled;);

    pub(crate) fn samples() -> crate::Events<Order> {
        let line = Line { sku: "a".to_owned(), cents: 5 };
        crate::events![Placed { lines: vec![line] }, Cancelled { reason: "late".to_owned() }]
    }
}

/// A field of a nested type has another name.
mod nested_change {
    part!(Line { sku: String, euro_cents: u64 });

    #[es_core::event]
    pub(crate) struct Placed {
        pub(crate) lines: Vec<Line>,
    }

    #[es_core::event]
    pub(crate) struct Cancelled {
        pub(crate) reason: String,
    }

    order!(Placed, Cancelled;);
}

/// A field of an event has another type.
mod direct_change {
    use super::first::Line;

    #[es_core::event]
    pub(crate) struct Placed {
        pub(crate) lines: Vec<Line>,
    }

    #[es_core::event]
    pub(crate) struct Cancelled {
        pub(crate) reason: Option<String>,
    }

    order!(Placed, Cancelled;);
}

/// The same change with a new version.
mod new_version {
    use super::first::Line;

    #[es_core::event]
    pub(crate) struct Placed {
        pub(crate) lines: Vec<Line>,
    }

    #[es_core::event]
    pub(crate) struct CancelledV1 {
        pub(crate) reason: String,
    }

    #[es_core::event(version = 2, previous = CancelledV1)]
    pub(crate) struct Cancelled {
        pub(crate) code: u8,
    }

    impl From<CancelledV1> for Cancelled {
        fn from(_: CancelledV1) -> Self {
            Self { code: 0 }
        }
    }

    order!(Placed, Cancelled;);

    /// The old version is gone.
    pub(crate) mod forgotten {
        use super::Placed;

        #[es_core::event]
        pub(crate) struct Cancelled {
            pub(crate) code: u8,
        }

        order!(Placed, Cancelled;);
    }
}

/// An event is gone.
mod gone {
    use super::first::Placed;

    order!(Placed;);

    pub(crate) mod retired {
        use super::Placed;

        order!(Placed; , retired("Cancelled"));
    }

    pub(crate) mod renamed {
        use super::Placed;

        #[es_core::event(alias = "Cancelled")]
        pub(crate) struct Withdrawn {
            pub(crate) reason: String,
        }

        order!(Placed, Withdrawn;);
    }
}

fn assert_says(result: Result<(), String>, parts: &[&str]) {
    let problems = result.expect_err("does not agree");
    for part in parts {
        assert!(problems.contains(part), "{part} is missing in\n{problems}");
    }
}

#[test]
fn the_first_run_writes_what_the_next_ones_compare() {
    let lock = Lock::new();
    lock.check(first::samples(), Run::Locally).expect("is written");
    let text = lock.text();
    for part in [r#""lines": "Vec<Line>""#, r#""cents": "u64""#, r#""reason": "late""#] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    for _ in 0..2 {
        lock.check(first::samples(), Run::Locally).expect("is the same");
    }
    assert_eq!(lock.text(), text);
}

#[test]
fn a_missing_file_fails_where_nobody_would_commit_it() {
    let lock = Lock::new();
    let result = SchemaLock::at(&lock.0).aggregate::<first::Order>(Events::none()).settle(Run::InCi);
    assert_says(result, &["there is no schema lock", "run the test once with UPDATE_SCHEMA=1"]);
    assert!(!lock.0.exists());
}

#[test]
fn a_changed_shape_needs_a_new_version() {
    let lock = Lock::new();
    lock.check(first::samples(), Run::Locally).expect("is written");
    assert_says(
        lock.check::<direct_change::Order>(Events::none(), Run::Locally),
        &[
            "the shape of `Cancelled` of `order` has changed, and its version is still 1",
            r#"-         "reason": "String","#,
            r#"+         "reason": "Option<String>","#,
            "keep the old struct as `CancelledV1`, and write `#[event(version = 2, previous = CancelledV1)]`",
        ],
    );
    // Old payloads still fit: that can be accepted.
    lock.check::<direct_change::Order>(Events::none(), Run::Update).expect("is accepted");
    lock.check::<direct_change::Order>(Events::none(), Run::Locally).expect("is the same");

    let lock = Lock::new();
    lock.check(first::samples(), Run::Locally).expect("is written");
    lock.check::<new_version::Order>(Events::none(), Run::Update).expect("is a new version");
    lock.check::<new_version::Order>(Events::none(), Run::Locally).expect("is the same");
    assert!(lock.text().contains("late"), "the samples of the old version stay:\n{}", lock.text());
}

#[test]
fn a_nested_type_is_a_part_of_the_shape() {
    let lock = Lock::new();
    lock.check::<first::Order>(Events::none(), Run::Locally).expect("is written");
    assert_says(
        lock.check::<nested_change::Order>(Events::none(), Run::Locally),
        &[
            "the shape of `Placed`",
            r#"-             "cents": "u64","#,
            r#"+             "euro_cents": "u64","#,
        ],
    );
}

/// What was stored stays stored: no update makes that right.
#[test]
fn samples_are_decoded_for_ever() {
    let lock = Lock::new();
    lock.check(first::samples(), Run::Locally).expect("is written");
    for run in [Run::Locally, Run::Update] {
        assert_says(
            lock.check::<nested_change::Order>(Events::none(), run),
            &["`Placed` of `order` in version 1 has been stored as", "missing field `euro_cents`"],
        );
    }
}

#[test]
fn versions_that_were_stored_are_read_for_ever() {
    let lock = Lock::new();
    lock.check::<new_version::Order>(Events::none(), Run::Locally).expect("is written");
    for run in [Run::Locally, Run::Update] {
        assert_says(
            lock.check::<new_version::forgotten::Order>(Events::none(), run),
            &[
                "`Cancelled` of `order` has been stored with version 2, and the code has gone back to version 1",
            ],
        );
    }
}

#[test]
fn a_name_does_not_vanish() {
    let lock = Lock::new();
    lock.check(first::samples(), Run::Locally).expect("is written");
    for run in [Run::Locally, Run::Update] {
        assert_says(
            lock.check::<gone::Order>(Events::none(), run),
            &[
                "`order` no longer knows the stored name `Cancelled`",
                "`alias = \"Cancelled\"`",
                "`retired(\"Cancelled\")`",
            ],
        );
    }
    lock.check::<gone::retired::Order>(Events::none(), Run::Locally).expect("is retired");
    assert_says(
        lock.check::<gone::renamed::Order>(Events::none(), Run::Locally),
        &["`Withdrawn` of `order` in version 1 is not in the schema lock yet"],
    );
    lock.check::<gone::renamed::Order>(Events::none(), Run::Update).expect("is found under the old name");
    lock.check::<gone::renamed::Order>(Events::none(), Run::Locally).expect("is the same");
}

#[test]
fn new_events_and_samples_are_to_be_locked() {
    let lock = Lock::new();
    lock.check::<gone::Order>(Events::none(), Run::Locally).expect("is written");
    assert_says(
        lock.check::<first::Order>(Events::none(), Run::Locally),
        &["`Cancelled` of `order` in version 1 is not in the schema lock yet", "UPDATE_SCHEMA=1"],
    );
    lock.check::<first::Order>(Events::none(), Run::Update).expect("is accepted");
    assert_says(
        lock.check(first::samples(), Run::Locally),
        &["a sample of `Cancelled`", "is not in the schema lock: {\"reason\":\"late\"}"],
    );
}

#[test]
fn two_aggregates_cannot_share_a_name() {
    let lock = Lock::new();
    let both = SchemaLock::at(&lock.0)
        .aggregate::<first::Order>(Events::none())
        .aggregate::<gone::Order>(Events::none());
    assert_says(both.settle(Run::Update), &["two aggregates have the name `order`"]);
}

#[test]
fn an_aggregate_that_is_left_out_is_missed() {
    let lock = Lock::new();
    lock.check::<first::Order>(Events::none(), Run::Locally).expect("is written");
    let nothing = SchemaLock::at(&lock.0);
    assert_says(nothing.settle(Run::Locally), &["the aggregate `order` is in the schema lock"]);
}

#[test]
fn a_damaged_file_is_no_missing_one() {
    let lock = Lock::new();
    fs::create_dir_all(lock.0.parent().expect("has one")).expect("is made");
    for text in ["", "{", "[]", r#"{"order": {"Placed": {"one": {}}}}"#] {
        fs::write(&lock.0, text).expect("is written");
        assert_says(lock.check::<first::Order>(Events::none(), Run::Update), &["cannot be read"]);
        assert_eq!(lock.text(), text);
    }
}

/// Fields that are read as something else although their names and types stay.
mod attributes {
    fn yes() -> bool {
        true
    }

    fn no() -> bool {
        false
    }

    /// An aggregate with one event.
    macro_rules! noted {
        ($name:ident { $($field:tt)* }) => {
            pub(super) mod $name {
                #[es_core::event]
                pub(crate) struct Noted {
                    $($field)*
                }

                order!(Noted;);
            }
        };
    }

    noted!(first { #[serde(default)] pub(crate) note: Option<String> });
    noted!(renamed { #[serde(default, alias = "note")] pub(crate) remark: Option<String> });
    noted!(without_alias { #[serde(default)] pub(crate) remark: Option<String> });
    noted!(yes_by_default { pub(crate) n: u8, #[serde(default = "super::yes")] pub(crate) vip: bool });
    noted!(no_by_default { pub(crate) n: u8, #[serde(default = "super::no")] pub(crate) vip: bool });
    noted!(seconds { #[serde(with = "chrono::serde::ts_seconds")] pub(crate) at: chrono::DateTime<chrono::Utc> });
    noted!(milliseconds { #[serde(with = "chrono::serde::ts_milliseconds")] pub(crate) at: chrono::DateTime<chrono::Utc> });
    noted!(set { pub(crate) tags: std::collections::HashSet<u32> });

    /// An event whose field has another format in each release, which no attribute shows.
    macro_rules! release {
        ($name:ident, $factor:literal) => {
            pub(super) mod $name {
                #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
                #[serde(from = "u64", into = "u64")]
                pub(crate) struct Cents(pub(crate) u64);

                impl From<u64> for Cents {
                    fn from(stored: u64) -> Self {
                        Self(stored * $factor)
                    }
                }

                impl From<Cents> for u64 {
                    fn from(cents: Cents) -> Self {
                        cents.0 / $factor
                    }
                }

                #[es_core::event]
                pub(crate) struct Paid {
                    pub(crate) cents: Cents,
                }

                order!(Paid;);
            }
        };
    }

    release!(one, 1);
    release!(two, 100);
}

#[test]
fn attributes_are_a_part_of_the_shape() {
    use attributes::{first, milliseconds, no_by_default, renamed, seconds, without_alias, yes_by_default};

    let lock = Lock::new();
    let note = || Some("call back".to_owned());
    lock.check::<first::Order>(first::Noted { note: note() }, Run::Locally).expect("is written");
    lock.check::<renamed::Order>(renamed::Noted { remark: note() }, Run::Update).expect("is accepted");
    lock.check::<renamed::Order>(Events::none(), Run::Locally).expect("is the same");
    assert_says(
        lock.check::<without_alias::Order>(Events::none(), Run::Locally),
        &[
            r#"-         "remark": "Option<String> #[serde(alias=\"note\", default)]","#,
            "stored as {\"note\":\"call back\"}, is read as another value",
            r#"+ Noted(Noted { remark: None })"#,
        ],
    );

    let lock = Lock::new();
    lock.check::<yes_by_default::Order>(Events::none(), Run::Locally).expect("is written");
    assert_says(
        lock.check::<no_by_default::Order>(Events::none(), Run::Locally),
        &["default=\\\"super::yes\\\""],
    );

    let lock = Lock::new();
    let at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(10_000);
    lock.check::<seconds::Order>(seconds::Noted { at }, Run::Locally).expect("is written");
    assert_says(
        lock.check::<milliseconds::Order>(Events::none(), Run::Locally),
        &["ts_seconds", "ts_milliseconds", "is read as another value", "1970-01-11T00:00:00Z"],
    );
}

#[test]
fn samples_are_read_as_the_values_that_they_were() {
    use attributes::{one, two};

    let lock = Lock::new();
    lock.check::<one::Order>(one::Paid { cents: one::Cents(500) }, Run::Locally).expect("is written");
    assert_says(
        lock.check::<two::Order>(Events::none(), Run::Locally),
        &[
            "is read as another value",
            "- Paid(Paid { cents: Cents(500) })",
            "+ Paid(Paid { cents: Cents(50000) })",
        ],
    );
    lock.check::<two::Order>(Events::none(), Run::Update).expect("is accepted");
    lock.check::<two::Order>(Events::none(), Run::Locally).expect("is the same");
}

#[test]
fn values_without_an_order_are_the_same_in_any() {
    use attributes::set;

    let lock = Lock::new();
    let sample = || set::Noted { tags: (0..20).collect() };
    lock.check::<set::Order>(sample(), Run::Locally).expect("is written");
    for _ in 0..20 {
        lock.check::<set::Order>(Events::none(), Run::Locally).expect("is the same");
    }
}

/// A process, rows, and metadata of two releases.
mod others {
    macro_rules! release {
        ($name:ident, $field:ident) => {
            pub(super) mod $name {
                use crate::testing::lock::tests::first::{Order, Placed};
                use crate::{BoxError, EventContext, Events, Reaction};

                #[es_core::event]
                pub(crate) struct Overdue {
                    pub(crate) $field: u64,
                }

                #[derive(Clone, es_core::Process)]
                #[process(name = "watch", state = Order, events(Order(Placed)), timeouts(Overdue))]
                pub(crate) struct Watch;

                impl crate::React<Placed> for Watch {
                    fn instance(&self, _: &Placed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
                        Ok(Some(ctx.id().to_owned()))
                    }

                    async fn react(
                        &self,
                        _: &Placed,
                        _: &mut Reaction<'_, Order>,
                    ) -> Result<Events<Order>, BoxError> {
                        Ok(Events::none())
                    }
                }

                impl crate::React<Overdue> for Watch {
                    fn instance(&self, _: &Overdue, ctx: &EventContext) -> Result<Option<String>, BoxError> {
                        Ok(Some(ctx.id().to_owned()))
                    }

                    async fn react(
                        &self,
                        _: &Overdue,
                        _: &mut Reaction<'_, Order>,
                    ) -> Result<Events<Order>, BoxError> {
                        Ok(Events::none())
                    }
                }

                #[derive(
                    Clone, Debug, es_core::Row, es_core::Schema, serde::Serialize, serde::Deserialize,
                )]
                #[row(name = "orders", key = order)]
                pub(crate) struct OrderRow {
                    pub(crate) order: String,
                    pub(crate) $field: u64,
                }

                #[derive(Debug, es_core::Schema, serde::Serialize, serde::Deserialize)]
                pub(crate) struct Tenant {
                    pub(crate) $field: u64,
                }

                impl crate::metadata::MetadataValue for Tenant {
                    const KEY: &'static str = "tenant";
                }

                pub(crate) fn lock(path: &std::path::Path) -> crate::testing::SchemaLock {
                    crate::testing::SchemaLock::at(path)
                        .process::<Watch>(|timeouts| timeouts.sample(Overdue { $field: 1 }))
                        .rows([OrderRow { order: "1".to_owned(), $field: 1 }])
                        .metadata([Tenant { $field: 1 }])
                }
            }
        };
    }

    release!(one, cents);
    release!(two, euros);
}

#[test]
fn timeouts_rows_and_metadata_are_locked() {
    let lock = Lock::new();
    others::one::lock(&lock.0).settle(Run::Locally).expect("is written");
    assert!(lock.text().contains(r#""decoded": "Overdue { cents: 1 }""#), "{}", lock.text());
    others::one::lock(&lock.0).settle(Run::Locally).expect("is the same");
    assert_says(
        others::two::lock(&lock.0).settle(Run::Locally),
        &[
            "the shape of `Overdue` of the process `watch` has changed",
            "`Overdue` of the process `watch` in version 1 has been stored as {\"cents\":1}, which can no longer be read",
            "the shape of `orders` of the rows `orders` has changed",
            "or rebuild the projection in the same release",
            "`tenant` of the metadata `tenant` in version 1 has been stored as {\"cents\":1}",
        ],
    );
    assert_says(SchemaLock::at(&lock.0).settle(Run::Locally), &["the process `watch` is in the schema lock"]);
}
