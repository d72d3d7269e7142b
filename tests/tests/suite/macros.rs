//! The code that the macros generate.

#![allow(missing_docs, unreachable_pub)]

use es_core::event::{DecodeError, EventData, EventKind};
use es_core::prelude::*;

/// Returns the stored name and the version of each kind.
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
    fn are_the_names_of_the_types_by_default() {
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
    fn reject_other_names() {
        let error = Placed::decode(&EventData::new("OrderShipped", 1, "{}")).expect_err("unknown");
        assert!(matches!(error, DecodeError::UnknownName { .. }), "{error}");
    }
}

mod derives {
    use super::*;
    use es_core::serde::{Deserialize, Serialize};

    /// Derives everything itself, below the attribute.
    #[event]
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde", rename_all = "camelCase")]
    pub struct Whole {
        pub total_cents: u64,
    }

    /// Derives some of the traits.
    #[event]
    #[derive(Clone, std::fmt::Debug)]
    pub struct Partial {
        #[serde(rename = "sum", default)]
        pub cents: u64,
        #[serde(skip)]
        pub cached: bool,
    }

    /// Implements one trait by hand.
    #[event(skip_derive(PartialEq))]
    pub struct ByHand {
        pub cents: u64,
    }

    impl PartialEq for ByHand {
        fn eq(&self, other: &Self) -> bool {
            self.cents / 100 == other.cents / 100
        }
    }

    /// Implements most traits by hand.
    #[event(skip_derive(Debug, Serialize, Deserialize))]
    pub struct Plain(u8);

    impl std::fmt::Debug for Plain {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("plain")
        }
    }

    impl Serialize for Plain {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&"|".repeat(self.0.into()))
        }
    }

    impl<'de> Deserialize<'de> for Plain {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let strokes = String::deserialize(deserializer)?;
            u8::try_from(strokes.len()).map(Self).map_err(serde::de::Error::custom)
        }
    }

    #[test]
    fn of_serde_can_be_replaced_by_hand() {
        assert_eq!(round_trip(&Plain(3)).payload(), "\"|||\"");
        assert_eq!(format!("{:?}", Plain(3)), "plain");
    }

    #[test]
    fn are_added_if_they_are_missing() {
        assert_eq!(round_trip(&Whole { total_cents: 1 }).payload(), r#"{"totalCents":1}"#);
        assert_eq!(round_trip(&Partial { cents: 1, cached: false }).payload(), r#"{"sum":1}"#);
        assert_eq!(ByHand { cents: 101 }, ByHand { cents: 102 });
        round_trip(&ByHand { cents: 1 });
    }

    #[test]
    fn shapes_follow_the_json() {
        let fields = |kinds: &'static [EventKind]| {
            kinds[0].fields().iter().map(|field| (field.name, field.ty)).collect::<Vec<_>>()
        };
        assert_eq!(fields(Whole::KINDS), [("totalCents", "u64")]);
        assert_eq!(fields(Partial::KINDS), [("sum", "u64 #[serde(default)]")]);
    }
}

mod versions {
    use super::*;

    /// Was renamed between its second and third versions.
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
    fn are_all_read() {
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

    /// Was renamed twice. Each version knows all former names.
    #[event(name = "Bought")]
    pub struct BoughtV1;

    #[event(name = "Ordered", version = 2, previous = BoughtV1, alias = "Bought")]
    pub struct OrderedV2;

    #[event(version = 3, previous = OrderedV2, alias = "Ordered", alias = "Bought")]
    pub struct Placed {
        pub from: u8,
    }

    impl From<BoughtV1> for OrderedV2 {
        fn from(_: BoughtV1) -> Self {
            Self
        }
    }

    impl From<OrderedV2> for Placed {
        fn from(_: OrderedV2) -> Self {
            Self { from: 2 }
        }
    }

    #[test]
    fn are_read_under_all_names() {
        for name in ["Bought", "Ordered", "Placed"] {
            for version in [1, 2] {
                let stored = EventData::new(name, version, "null");
                assert_eq!(Placed::decode(&stored).expect("reads"), Placed { from: 2 }, "{name} {version}");
            }
            let stored = EventData::new(name, 3, r#"{"from":3}"#);
            assert_eq!(Placed::decode(&stored).expect("reads"), Placed { from: 3 }, "{name}");
            assert!(Placed::knows(name));
        }
        assert!(!Placed::knows("OrderedV2"));
    }

    #[test]
    fn that_do_not_exist_are_rejected() {
        for version in [0, 4] {
            let error = read("Cancelled", version, "{}").expect_err("unknown");
            let DecodeError::UnknownVersion { known, .. } = &error else { panic!("{error:?}") };
            assert!(known == "versions 1 to 3" || version == 0, "{error}");
        }
    }
}

mod families {
    use super::*;

    /// Its fields are renamed by serde.
    #[event]
    #[serde(rename_all_fields = "camelCase")]
    pub enum Renaming {
        Counted {
            total_items: u8,
        },
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        Weighed {
            total_grams: u8,
            #[serde(skip)]
            cached: u8,
        },
    }

    #[test]
    fn have_shapes_that_follow_the_json() {
        let counted = Renaming::Counted { total_items: 1 };
        assert_eq!(round_trip(&counted).payload(), r#"{"totalItems":1}"#);
        let weighed = Renaming::Weighed { total_grams: 2, cached: 0 };
        assert_eq!(round_trip(&weighed).payload(), r#"{"TOTAL_GRAMS":2}"#);
        let fields = |kind: &EventKind| kind.fields().iter().map(|field| field.name).collect::<Vec<_>>();
        assert_eq!(Renaming::KINDS.iter().map(fields).collect::<Vec<_>>(), [["totalItems"], ["TOTAL_GRAMS"]]);
    }

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
    use super::families::{Door, DoorEvent};
    use super::*;

    pub mod facts {
        #[es_core::event]
        pub(crate) struct Begun;
    }

    #[event]
    pub(crate) struct Ended;

    /// Lists events of this module, of another module, and of a family.
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
    fn dispatch_every_listed_event() {
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
    fn name_their_events_when_an_event_is_unknown() {
        let error = AnyEvent::decode(&EventData::new("Vanished", 1, "{}")).expect_err("unknown");
        let text = error.to_string();
        assert!(text.contains("`Vanished`") && text.contains("`Begun`, `Ended`, `Opened`"), "{text}");
    }

    #[test]
    fn have_snapshots_if_the_attribute_says_so() {
        let snapshots = Mixed::snapshots().expect("has snapshots");
        assert_eq!(snapshots.policy(), es_core::snapshot::SnapshotPolicy::Every(3));
        assert!(Door::snapshots().is_none());
    }

    #[test]
    fn format_their_events_like_a_derive() {
        let begun = AnyEvent::from(facts::Begun);
        assert_eq!(format!("{begun:?}"), "Begun(Begun)");
        assert_eq!(begun.clone(), begun);
        assert_ne!(begun, AnyEvent::from(Ended));
        assert_ne!(AnyEvent::from(DoorEvent::Opened), DoorEvent::Moved(1, 2).into());
    }

    /// All items are in one function, to which only relative paths lead.
    #[test]
    fn can_be_defined_in_functions() {
        #[event]
        struct Rung {
            times: u8,
        }

        #[derive(Aggregate, Default)]
        #[aggregate(name = "bell", id = u8, events(Rung))]
        struct Bell {
            times: u8,
        }

        impl Apply<Rung> for Bell {
            fn apply(&mut self, event: &Rung) {
                self.times += event.times;
            }
        }

        let mut bell = Bell::default();
        bell.apply_event(
            &BellEvent::decode(&round_trip(&BellEvent::Rung(Rung { times: 2 }))).expect("decodes"),
        );
        assert_eq!(bell.times, 2);
    }
}

mod shapes {
    use super::*;
    use es_core::snapshot::Fingerprint;

    fn shape<A: Aggregate>() -> Fingerprint {
        A::snapshots().expect("has snapshots").fingerprint()
    }

    #[event]
    pub struct Counted;

    /// Defines an aggregate with the given state in a module.
    macro_rules! state {
        ($module:ident, { $($snapshot:tt)* }, { $($state:tt)* }) => {
            mod $module {
                use super::*;

                #[derive(Aggregate, Default, es_core::serde::Serialize, es_core::serde::Deserialize)]
                #[serde(crate = "es_core::serde")]
                #[aggregate(name = "count", id = u8, events(Counted), snapshot($($snapshot)*))]
                #[allow(dead_code)] // only their types matter
                pub struct Count { $($state)* }

                impl Apply<Counted> for Count {
                    fn apply(&mut self, _: &Counted) {}
                }
            }
        };
    }

    state!(first, { every = 5 }, { pub count: u8, pub names: Vec<String> });
    state!(same, { every = 7 }, {
        /// A comment.
        pub(super) count: u8,
        pub names: Vec<
            String,
        >,
    });
    state!(renamed, { every = 5 }, { pub total: u8, pub names: Vec<String> });
    state!(retyped, { every = 5 }, { pub count: u16, pub names: Vec<String> });
    state!(reordered, { every = 5 }, { pub names: Vec<String>, pub count: u8 });
    state!(skipping, { every = 5 }, { #[serde(skip)] pub count: u8, pub names: Vec<String> });
    state!(revised, { every = 5, version = 2 }, { pub count: u8, pub names: Vec<String> });

    #[test]
    fn depend_on_the_fields() {
        let first = shape::<first::Count>();
        assert_eq!(shape::<same::Count>(), first, "comments, visibility, and layout do not matter");
        let others = [
            shape::<renamed::Count>(),
            shape::<retyped::Count>(),
            shape::<reordered::Count>(),
            shape::<skipping::Count>(),
            shape::<revised::Count>(),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first);
            assert!(!others[..index].contains(other));
        }
    }
}

mod generated {
    use super::*;

    /// A macro that generates events.
    macro_rules! events {
        ($($event:ident($field:ident: $ty:ty) as $name:literal $version:literal $(after $previous:ty)?;)*) => {
            $(
                #[event(name = $name, version = $version $(, previous = $previous)?)]
                pub struct $event {
                    pub $field: $ty,
                }
            )*
        };
    }

    events! {
        Counted(count: u8) as "counted" 1;
        Summed(sum: Vec<u16>) as "counted" 2 after Counted;
    }

    impl From<Counted> for Summed {
        fn from(old: Counted) -> Self {
            Self { sum: vec![old.count.into()] }
        }
    }

    #[test]
    fn items_are_events() {
        assert_eq!(kinds::<Summed>(), [("counted", 2)]);
        assert_eq!(Summed::KINDS[0].fields()[0].ty, "Vec<u16>");
        let old = EventData::new("counted", 1, r#"{"count":3}"#);
        assert_eq!(Summed::decode(&old).expect("reads"), Summed { sum: vec![3] });
    }
}

/// Tokens from a macro that the user defines.
mod out_of_a_macro {
    use super::*;

    macro_rules! aggregate {
        ($name:ident, $id:ty, $($event:ident),*) => {
            #[derive(Aggregate, Debug, Default)]
            #[aggregate(name = "out_of_a_macro", id = $id, events($($event),*), snapshot)]
            #[derive(es_core::serde::Serialize, es_core::serde::Deserialize)]
            #[serde(crate = "es_core::serde")]
            pub struct $name(u64);

            $(impl Apply<$event> for $name {
                fn apply(&mut self, event: &$event) {
                    self.0 += event.by;
                }
            })*
        };
    }

    macro_rules! event {
        ($name:ident, $version:literal, $previous:ty) => {
            #[es_core::event(version = $version, previous = $previous)]
            pub struct $name {
                pub by: u64,
            }
        };
    }

    #[es_core::event]
    pub struct SteppedV1 {
        pub by: u64,
    }

    event!(Stepped, 2, SteppedV1);

    impl From<SteppedV1> for Stepped {
        fn from(old: SteppedV1) -> Self {
            Self { by: old.by }
        }
    }

    #[es_core::event]
    pub struct Jumped {
        pub by: u64,
    }

    aggregate!(Walker, u8, Stepped, Jumped);

    #[test]
    fn resolve_where_they_were_written() {
        let mut walker = Walker::default();
        walker.apply_event(&Stepped { by: 1 }.into());
        walker.apply_event(&Jumped { by: 2 }.into());
        assert_eq!(walker.0, 3);
        let old = EventData::new("Stepped", 1, "{\"by\":4}");
        assert_eq!(WalkerEvent::decode(&old), Ok(Stepped { by: 4 }.into()));
    }
}

/// Types, paths, and blocks from a macro that the user defines, which the compiler passes on in invisible groups.
mod in_invisible_groups {
    use super::*;
    use es_core::testing::given;

    macro_rules! id {
        ($name:ident, $ty:ty) => {
            #[derive(Id)]
            pub struct $name($ty);
        };
    }

    macro_rules! handlers {
        ($self_ty:ty: $($method:ident($command:ty) -> $output:ty $body:block)*) => {
            #[handlers]
            impl $self_ty {
                #[apply]
                fn counted(&mut self, _: &Counted) {
                    self.0 += 1;
                }

                $(#[handle] fn $method(&self, _: &$command) -> $output $body)*
            }
        };
    }

    macro_rules! process {
        ($name:ident, $state:ty, $instance:path) => {
            #[derive(Clone, Process)]
            #[process(name = "groups", state = $state, events($state(Counted)))]
            pub struct $name;

            #[handlers]
            impl $name {
                #[react(instance = $instance)]
                async fn counted(&self, _: &Counted) {}
            }
        };
    }

    #[event]
    pub struct Counted;

    pub struct Count;

    id!(Number, u64);

    #[derive(Aggregate, Debug, Default)]
    #[aggregate(name = "groups", id = Number, events(Counted))]
    pub struct Counter(u64);

    handlers! {
        Counter: count(Count) -> Option<Counted> { Some(Counted) }
    }

    process!(Watch, Counter, first);

    fn first(_: &Counted) -> Number {
        Number::from(1)
    }

    #[test]
    fn are_what_they_contain() {
        assert_eq!("7".parse::<Number>(), Ok(Number::from(7)));
        given::<Counter>([Counted]).when(Count).then([Counted]);
        assert_eq!(<Watch as Process>::NAME, "groups");
    }
}

/// States and events with the names of associated types and of items of the prelude.
mod names_in_use {
    use super::*;
    use es_core::testing::given;

    #[event]
    pub struct Error;

    #[event]
    pub struct Result {
        pub event: u64,
        pub stored: ::std::string::String,
    }

    #[event]
    pub struct Option(pub u8);

    pub struct Fail;

    #[derive(Aggregate, Debug, Default)]
    #[aggregate(name = "names", id = u64, events(Error, Result, Option), event_enum = Vec)]
    pub enum State {
        #[default]
        None,
        Error,
        Id,
        Event,
        Some,
    }

    #[handlers]
    impl State {
        #[apply]
        fn failed(&mut self, _: &Error) {
            *self = Self::Error;
        }

        #[apply]
        fn ended(&mut self, result: &Result) {
            *self = if result.event > 0 { Self::Event } else { Self::Id };
        }

        #[apply]
        fn chosen(&mut self, option: &Option) {
            *self = if option.0 > 0 { Self::Some } else { Self::None };
        }

        #[handle]
        fn fail(&self, _: &Fail) -> ::std::result::Result<Error, std::fmt::Error> {
            match self {
                Self::Error => Err(std::fmt::Error),
                _ => Ok(Error),
            }
        }
    }

    #[test]
    fn are_no_obstacle() {
        given::<State>([Option(1)]).when(Fail).then([Error]).when(Fail).then_error(std::fmt::Error);
    }
}

/// Keywords as names.
mod raw_identifiers {
    use super::*;
    use es_core::serde::{Deserialize, Serialize};

    #[derive(Id)]
    pub struct r#Loop(u64);

    #[derive(Clone, Row, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde")]
    #[row(name = "rows", key = r#type, index(r#match(r#fn)))]
    pub struct Line {
        pub r#type: String,
        pub r#fn: u64,
    }

    #[test]
    fn are_names_without_their_prefix() {
        assert_eq!(Line::INDEXES, ["match"]);
        assert_eq!(format!("{:?}", r#Loop::from(1)), "Loop(1)");
    }
}
