//! `#[derive(Id)]`, and types that are accepted in place of an id.

#![allow(missing_docs, unreachable_pub)]

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::ids::IdFrom;
use es_core::prelude::*;
use es_core::uuid::Uuid;
use es_core::{MemoryStore, serde_json};
use futures_executor::block_on;

#[derive(Id)]
pub struct OrderId(Uuid);

#[derive(Id)]
pub struct Number(u32);

#[derive(Id)]
pub struct Name(String);

/// An id that hides its content, and derives a trait itself.
#[derive(Id, PartialEq)]
#[id(skip_derive(Debug, PartialEq))]
pub struct Secret(Uuid);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[test]
fn read_and_write_the_text_of_the_inner_type() {
    let id = OrderId::new();
    assert_eq!(id.to_string(), Uuid::from(id).to_string());
    assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
    assert!("order".parse::<OrderId>().is_err());
    assert_eq!("17".parse::<Number>(), Ok(Number(17)));
    assert!("-1".parse::<Number>().is_err());
    for text in ["ann", " ann ", "", "\u{fc}#1"] {
        assert_eq!(text.parse::<Name>(), Ok(Name::from(text)));
        assert_eq!(Name::from(text).to_string(), text);
    }
    assert!(" 17".parse::<Number>().is_err(), "as for the inner type");
    assert_eq!(format!("{:?} {:>5}", Number(17), Number(17)), "Number(17)    17");
    assert_eq!(format!("{:?}", Secret(Uuid::nil())), "Secret");
}

#[test]
fn are_transparent_in_json() {
    let json =
        serde_json::to_string(&(Number(17), Name::from("ann"), OrderId(Uuid::nil()))).expect("encodes");
    assert_eq!(json, r#"[17,"ann","00000000-0000-0000-0000-000000000000"]"#);
    let read: (Number, Name, OrderId) = serde_json::from_str(&json).expect("decodes");
    assert_eq!(read, (Number(17), Name::from("ann"), OrderId(Uuid::nil())));
    let keys = serde_json::to_string(&HashMap::from([(Name::from("ann"), 1)])).expect("encodes");
    assert_eq!(keys, r#"{"ann":1}"#, "an id can be the key of a map");
}

#[test]
fn are_ordered_and_hashed_like_the_inner_type() {
    assert_eq!(BTreeSet::from([Number(20), Number(3)]).first(), Some(&Number(3)));
    assert_eq!(Number(20).cmp(&Number(3)), std::cmp::Ordering::Greater);
    assert!(Number(20) > Number(3) && Name::from("a") < Name::from("b"));
    let ages = HashMap::from([(Name::from("ann"), 30)]);
    assert_eq!(ages.get("ann"), Some(&30), "found by text");
    assert_eq!(Name::from("ann").as_ref(), "ann");
    let first = OrderId::new();
    assert_ne!(OrderId::new(), first);
    assert_eq!(Uuid::from(first).get_version_num(), 7);
}

#[event]
pub struct Counted;

macro_rules! counter {
    ($name:ident, $stored:literal, $id:ty) => {
        #[derive(Aggregate, Debug, Default, PartialEq)]
        #[aggregate(name = $stored, id = $id, events(Counted))]
        pub struct $name(u32);

        #[handlers]
        impl $name {
            #[apply]
            fn counted(&mut self, _: &Counted) {
                self.0 += 1;
            }

            #[handle]
            fn count(&self, _: &Count) -> Counted {
                Counted
            }
        }
    };
}

pub struct Count;
counter!(ByText, "by_text", String);
counter!(ByName, "by_name", Name);
counter!(ByNumber, "by_number", Number);
counter!(ByCopied, "by_copied", Copied);

/// An id that counts its copies.
#[derive(Debug)]
pub struct Copied(String);

static COPIES: AtomicU32 = AtomicU32::new(0);

impl Clone for Copied {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[tokio::test]
async fn text_stands_for_an_id_over_text() {
    let store = MemoryStore::new();
    let by_text: Repository<ByText> = Repository::new(store.clone());
    let by_name: Repository<ByName> = Repository::new(store.clone());
    let ann = "ann".to_owned();
    by_text.execute("ann", Count).await.expect("counts");
    assert_eq!(by_text.load(&ann).await.expect("loads").state, ByText(1));
    by_name.create("ann", Count).await.expect("counts");
    by_name.execute(&ann, Count).await.expect("counts");
    by_name.once("key").execute(&Name::from("ann"), Count).await.expect("counts");
    Transaction::new(&store)
        .execute(&by_name, "ann", Count)
        .execute(&by_text, "bob", Count)
        .commit()
        .await
        .expect("counts");
    let loaded = by_name.load("ann").await.expect("loads");
    assert_eq!((loaded.state, loaded.version), (ByName(4), Version::new(4)));
    assert_eq!(by_name.load_at("ann", Version::new(2)).await.expect("loads").state, ByName(2));
    assert!(by_text.exists("bob").await.expect("reads"));
    assert_eq!(by_name.history("ann").all().await.expect("reads").len(), 4);
}

/// Returns the number of allocations of ten commands on a new store, and of ten loads.
fn allocations<A, Q>(id: &Q) -> (u64, u64)
where
    A: Aggregate + Handle<Count>,
    A::Id: IdFrom<Q>,
    Q: ?Sized + Sync,
{
    let aggregates: Repository<A> = Repository::new(MemoryStore::new());
    let executed = allocation_counter::measure(|| {
        for _ in 0..10 {
            assert!(block_on(aggregates.execute(id, Count)).is_ok());
        }
    });
    let loaded = allocation_counter::measure(|| {
        for _ in 0..10 {
            block_on(aggregates.load(id)).expect("loads");
        }
    });
    (executed.count_total, loaded.count_total)
}

/// A reference to an id is not copied on the way. The context of a handler has the only copy, for each decision.
#[test]
fn an_id_is_copied_once_per_decision() {
    let copies = || COPIES.load(Ordering::Relaxed);
    let id = Copied("ann".to_owned());
    let aggregates: Repository<ByCopied> = Repository::new(MemoryStore::new());
    block_on(aggregates.execute(&id, Count)).expect("counts");
    assert_eq!(copies(), 1);
    block_on(aggregates.load(&id)).expect("loads");
    block_on(aggregates.history(&id).all()).expect("reads");
    assert_eq!(copies(), 1, "reads need no copy");
}

/// Text that stands for an id becomes one with a single allocation.
#[test]
fn text_costs_one_allocation_more_than_an_id() {
    // What the process allocates once is not counted.
    allocations::<ByText, _>("ann");
    allocations::<ByName, _>("ann");
    allocations::<ByNumber, _>(&Number(117));
    for (of_id, of_text) in [
        (allocations::<ByText, _>(&"ann".to_owned()), allocations::<ByText, _>("ann")),
        (allocations::<ByName, _>(&Name::from("ann")), allocations::<ByName, _>("ann")),
    ] {
        assert_eq!((of_text.0, of_text.1), (of_id.0 + 10, of_id.1 + 10));
    }
    let (of_number, of_text) = (allocations::<ByNumber, _>(&Number(117)), allocations::<ByText, _>("117"));
    assert!(
        of_number.0 < of_text.0 && of_number.1 < of_text.1,
        "{of_number:?} {of_text:?}: a number is not allocated"
    );
}

/// An id of another type still decides the type of an expression.
#[tokio::test]
async fn ids_are_inferred() {
    let by_number: Repository<ByNumber> = Repository::new(MemoryStore::new());
    by_number.execute(&"17".parse().expect("a number"), Count).await.expect("counts");
    by_number.execute(&17.into(), Count).await.expect("counts");
    assert_eq!(by_number.load(&Number(17)).await.expect("loads").state, ByNumber(2));
}
