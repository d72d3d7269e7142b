//! Rows whose type has changed since they were stored.

use es_core::MemoryStore;
use es_core::prelude::*;
use es_core::read_model::ReadModelError;
use es_core::serde::{Deserialize, Serialize};
use es_tests::domain::{Account, Deposited};

use super::support::{deposit, projector};

mod old {
    use super::*;

    #[derive(Clone, Row, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde")]
    #[row(name = "totals", key = account, index(by_last(last)), index(by_count(count)))]
    pub(super) struct Total {
        account: String,
        last: String,
        count: u64,
    }

    #[derive(Clone, Projection)]
    #[projection(name = "totals", events(Account(Deposited)))]
    pub(super) struct Totals {
        #[read_model]
        pub(super) totals: ReadModel<Total>,
    }

    impl Project<Deposited> for Totals {
        async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
            let before = self.totals.get(ctx.id()).await?.map_or(0, |row| row.count);
            let (account, last) = (ctx.id().to_owned(), event.note.clone());
            Ok(self.totals.put(Total { account, last, count: before + 1 })?)
        }
    }
}

/// Without a field, with another, and with other indexes.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde", deny_unknown_fields)]
#[row(name = "totals", key = account, index(by_cents(cents)))]
struct Total {
    account: String,
    cents: u64,
}

#[derive(Clone, Projection)]
#[projection(name = "totals", events(Account(Deposited)))]
struct Totals {
    #[read_model]
    totals: ReadModel<Total>,
}

impl Project<Deposited> for Totals {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let before = self.totals.get(ctx.id()).await?.map_or(0, |row| row.cents);
        Ok(self.totals.put(Total { account: ctx.id().to_owned(), cents: before + event.cents })?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_brings_rows_of_another_type_and_deletes_the_old_ones() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let totals = ReadModel::of::<old::Totals>(&store);
    projector(store.clone(), old::Totals { totals }).build().run_until_caught_up().await.expect("works");

    let totals: ReadModel<Total> = ReadModel::of::<Totals>(&store);
    let error = totals.get("ada").await.expect_err("the row is an old one");
    assert!(matches!(&error, ReadModelError::Decode { .. }), "{error}");
    assert!(error.to_string().contains("rebuild the projection"), "{error}");
    let projector = projector(store.clone(), Totals { totals }).build();
    projector.rebuild().await.expect("begins");
    // The old build is complete, so that the new type never meets its rows.
    projector.run_until_caught_up().await.expect("works");
    projector.switch().await.expect("switched");
    projector.delete_replaced().await.expect("deleted, whatever the type was");
    let totals: ReadModel<Total> = ReadModel::of::<Totals>(&store);
    let row = Total { account: "ada".to_owned(), cents: 10 };
    assert_eq!(totals.find(Total::BY_CENTS, &10).all().await.expect("rows"), [row]);
    let old: ReadModel<old::Total> = ReadModel::of::<old::Totals>(&store);
    assert!(old.find(old::Total::BY_LAST, "b").all().await.expect("rows").is_empty());
    let left = es_core::documents::DocumentQuery::new("read#totals#1#totals#i#by_last#b");
    let left = es_core::documents::Documents::documents(&store, &left).await.expect("a page");
    assert!(left.documents.is_empty(), "its places are deleted, too");
}
