//! What the macros make of a domain.

#![allow(missing_docs, unreachable_pub)]

use es_core::event::EventKind;
use es_core::prelude::*;
use es_core::{DecodeError, EventData};

/// The stored name and version of each kind.
fn kinds<E: es_core::Event>() -> Vec<(&'static str, u32)> {
    E::KINDS.iter().map(|kind| (kind.name(), kind.version())).collect()
}

fn round_trip<E: es_core::Event>(event: &E) -> EventData {
    let stored = event.to_data().expect("encodes");
    assert_eq!(&E::decode(&stored).expect("decodes"), event);
    stored
}

mod names {
    use super::*;

    #[event]
    pub struct Placed {
        pub cents: u64,
    }

    #[event(name = "OrderShipped")]
    pub struct Shipped(pub String, pub u8);

    #[event]
    pub struct Delivered;

    #[event]
    pub struct PlanV2 {
        pub r#type: String,
    }

    #[test]
    fn are_the_types_unless_given() {
        assert_eq!(kinds::<Placed>(), [("Placed", 1)]);
        assert_eq!(kinds::<Shipped>(), [("OrderShipped", 1)]);
        assert_eq!(kinds::<PlanV2>(), [("PlanV2", 1)]);
    }

    #[test]
    fn payloads_are_plain_json() {
        let payload = |stored: EventData| stored.payload().to_owned();
        assert_eq!(payload(round_trip(&Placed { cents: 5 })), r#"{"cents":5}"#);
        assert_eq!(payload(round_trip(&Shipped("DHL".to_owned(), 2))), r#"["DHL",2]"#);
        assert_eq!(payload(round_trip(&Delivered)), "null");
        assert_eq!(payload(round_trip(&PlanV2 { r#type: "a".to_owned() })), r#"{"type":"a"}"#);
    }

    #[test]
    fn another_name_is_refused() {
        let error = Placed::decode(&EventData::new("OrderShipped", 1, "{}")).expect_err("unknown");
        assert!(matches!(error, DecodeError::UnknownName { .. }), "{error}");
    }
}

mod derives {
    use super::*;
    use es_core::serde::{Deserialize, Serialize};

    /// Has its own derives, above which the attribute stands.
    #[event]
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde", rename_all = "camelCase")]
    pub struct Whole {
        pub total_cents: u64,
    }

    /// Has some of them.
    #[event]
    #[derive(Clone, std::fmt::Debug)]
    pub struct Partial {
        #[serde(rename = "sum", default)]
        pub cents: u64,
        #[serde(skip)]
        pub cached: bool,
    }

    /// Implements one of them by hand.
    #[event(skip_derive(PartialEq))]
    pub struct ByHand {
        pub cents: u64,
    }

    impl PartialEq for ByHand {
        fn eq(&self, other: &Self) -> bool {
            self.cents / 100 == other.cents / 100
        }
    }

    #[test]
    fn are_added_only_where_they_are_missing() {
        assert_eq!(round_trip(&Whole { total_cents: 1 }).payload(), r#"{"totalCents":1}"#);
        assert_eq!(round_trip(&Partial { cents: 1, cached: false }).payload(), r#"{"sum":1}"#);
        assert_eq!(ByHand { cents: 101 }, ByHand { cents: 102 });
        round_trip(&ByHand { cents: 1 });
    }

    #[test]
    fn shapes_are_those_of_the_json() {
        let fields = |kinds: &'static [EventKind]| {
            kinds[0].fields().iter().map(|field| (field.name, field.ty)).collect::<Vec<_>>()
        };
        assert_eq!(fields(Whole::KINDS), [("totalCents", "u64")]);
        assert_eq!(fields(Partial::KINDS), [("sum", "u64")]);
    }
}

mod versions {
    use super::*;

    /// Renamed between its second and its third version.
    #[event]
    pub struct CancelledV1 {
        pub reason: String,
    }

    #[event(name = "Cancelled", version = 2, previous = CancelledV1)]
    pub struct CancelledV2 {
        pub reason: String,
        pub by: String,
    }

    #[event(version = 3, previous = CancelledV2, alias = "Cancelled")]
    pub struct OrderCancelled {
        pub text: String,
    }

    impl From<CancelledV1> for CancelledV2 {
        fn from(old: CancelledV1) -> Self {
            Self { reason: old.reason, by: "unknown".to_owned() }
        }
    }

    impl From<CancelledV2> for OrderCancelled {
        fn from(old: CancelledV2) -> Self {
            Self { text: format!("{} ({})", old.reason, old.by) }
        }
    }

    fn read(name: &'static str, version: u32, payload: &str) -> Result<OrderCancelled, DecodeError> {
        OrderCancelled::decode(&EventData::new(name, version, payload))
    }

    #[test]
    fn of_every_age_are_read() {
        for name in ["Cancelled", "OrderCancelled"] {
            assert_eq!(read(name, 1, r#"{"reason":"late"}"#).expect("reads").text, "late (unknown)");
            assert_eq!(read(name, 2, r#"{"reason":"late","by":"ann"}"#).expect("reads").text, "late (ann)");
            assert_eq!(read(name, 3, r#"{"text":"late"}"#).expect("reads").text, "late");
        }
        assert_eq!(round_trip(&OrderCancelled { text: String::new() }).name(), "OrderCancelled");
        assert_eq!(kinds::<OrderCancelled>(), [("OrderCancelled", 3)]);
        let history: Vec<_> = std::iter::successors(Some(&OrderCancelled::KINDS[0]), |kind| kind.previous())
            .map(EventKind::version)
            .collect();
        assert_eq!(history, [3, 2, 1]);
    }

    #[test]
    fn of_the_future_and_of_no_time_are_refused() {
        for version in [0, 4] {
            let error = read("Cancelled", version, "{}").expect_err("unknown");
            let DecodeError::UnknownVersion { known, .. } = &error else { panic!("{error:?}") };
            assert!(known == "versions 1 to 3" || version == 0, "{error}");
        }
    }
}

mod families {
    use super::*;

    #[event]
    pub struct PaintedV1 {
        pub color: String,
    }

    #[event]
    pub enum DoorEvent {
        Opened,
        Named(String),
        #[event(name = "DoorMoved", alias = "Shifted")]
        Moved(i32, i32),
        #[event(version = 2, previous = PaintedV1)]
        Painted {
            color: String,
            shade: u8,
        },
        r#Match {
            r#in: bool,
        },
    }

    impl From<PaintedV1> for DoorEvent {
        fn from(old: PaintedV1) -> Self {
            Self::Painted { color: old.color, shade: 0 }
        }
    }

    #[derive(Aggregate, Debug, Default, PartialEq)]
    #[aggregate(name = "door", id = u64, event = DoorEvent)]
    pub enum Door {
        #[default]
        Closed,
        Open {
            times: u32,
        },
    }

    impl Apply<DoorEvent> for Door {
        fn apply(&mut self, event: &DoorEvent) {
            if *event == DoorEvent::Opened {
                let times = if let Self::Open { times } = self { *times } else { 0 };
                *self = Self::Open { times: times + 1 };
            }
        }
    }

    #[test]
    fn store_the_content_of_their_variants() {
        let names = ["Opened", "Named", "DoorMoved", "Painted", "Match"];
        assert_eq!(kinds::<DoorEvent>().iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        let stored = |event: DoorEvent| {
            let stored = round_trip(&event);
            (stored.name().to_owned(), stored.version(), stored.payload().to_owned())
        };
        let expect = |name: &str, version, payload: &str| (name.to_owned(), version, payload.to_owned());
        assert_eq!(stored(DoorEvent::Opened), expect("Opened", 1, "null"));
        assert_eq!(stored(DoorEvent::Named("a".to_owned())), expect("Named", 1, "\"a\""));
        assert_eq!(stored(DoorEvent::Moved(1, 2)), expect("DoorMoved", 1, "[1,2]"));
        let painted = DoorEvent::Painted { color: "red".to_owned(), shade: 3 };
        assert_eq!(stored(painted), expect("Painted", 2, r#"{"color":"red","shade":3}"#));
        assert_eq!(stored(DoorEvent::Match { r#in: true }), expect("Match", 1, r#"{"in":true}"#));
    }

    #[test]
    fn read_aliases_and_earlier_versions() {
        let read = |name: &'static str, version, payload: &str| {
            DoorEvent::decode(&EventData::new(name, version, payload))
        };
        assert_eq!(read("Shifted", 1, "[3,4]").expect("reads"), DoorEvent::Moved(3, 4));
        let painted = DoorEvent::Painted { color: "red".to_owned(), shade: 0 };
        assert_eq!(read("Painted", 1, r#"{"color":"red"}"#).expect("reads"), painted);
        assert!(matches!(read("Moved", 1, "[3,4]"), Err(DecodeError::UnknownName { .. })));
        assert!(matches!(read("Named", 2, "\"a\""), Err(DecodeError::UnknownVersion { .. })));
    }

    #[test]
    fn drive_a_state_machine() {
        let mut door = Door::default();
        for _ in 0..2 {
            door.apply_event(&DoorEvent::Opened);
        }
        assert_eq!(door, Door::Open { times: 2 });
        let events: Events<Door> = [DoorEvent::Opened, DoorEvent::Named("a".to_owned())].into();
        assert_eq!(events.len(), 2);
    }
}

mod aggregates {
    use super::*;
    use crate::families::{Door, DoorEvent};

    pub mod facts {
        #[es_core::event]
        pub(crate) struct Begun;
    }

    #[event]
    pub(crate) struct Ended;

    /// Events from here, from another module, and a whole family.
    #[derive(Aggregate, Default)]
    #[aggregate(
        name = "mixed",
        id = String,
        events(facts::Begun, Ended, DoorEvent),
        event_enum = AnyEvent,
        retired("Vanished"),
        snapshot(every = 3, version = 2),
    )]
    #[derive(es_core::serde::Serialize, es_core::serde::Deserialize)]
    #[serde(crate = "es_core::serde")]
    pub(crate) struct Mixed {
        seen: Vec<String>,
    }

    impl Apply<facts::Begun> for Mixed {
        fn apply(&mut self, _: &facts::Begun) {
            self.seen.push("begun".to_owned());
        }
    }

    impl Apply<Ended> for Mixed {
        fn apply(&mut self, _: &Ended) {
            self.seen.push("ended".to_owned());
        }
    }

    impl Apply<DoorEvent> for Mixed {
        fn apply(&mut self, event: &DoorEvent) {
            self.seen.push(format!("door {}", event.kind().name()));
        }
    }

    #[test]
    fn dispatch_every_event_that_they_list() {
        let names: Vec<_> = kinds::<AnyEvent>().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Begun", "Ended", "Opened", "Named", "DoorMoved", "Painted", "Match"]);
        let events: Events<Mixed> = events![facts::Begun, DoorEvent::Opened, Ended];
        let mut state = Mixed::default();
        for event in events.as_slice() {
            state.apply_event(&AnyEvent::decode(&round_trip(event)).expect("decodes"));
        }
        assert_eq!(state.seen, ["begun", "door Opened", "ended"]);
        assert_eq!((Mixed::NAME, Mixed::RETIRED), ("mixed", &["Vanished"][..]));
    }

    #[test]
    fn name_what_they_know_when_they_do_not_know_an_event() {
        let error = AnyEvent::decode(&EventData::new("Vanished", 1, "{}")).expect_err("unknown");
        let text = error.to_string();
        assert!(text.contains("`Vanished`") && text.contains("`Begun`, `Ended`, `Opened`"), "{text}");
    }

    #[test]
    fn have_snapshots_of_the_shape_that_they_have() {
        let snapshots = Mixed::snapshots().expect("has snapshots");
        assert_eq!(snapshots.policy(), es_core::SnapshotPolicy::Every(3));
        assert!(Door::snapshots().is_none());
    }
}
