//! One command at a time: requests and capacity units.

use es_benches::engine::Engine;
use es_benches::meter::{Meter, Usage};
use es_benches::report::{Table, count};
use es_benches::{Failure, tables};
use es_core::{Events, Repository};
use uuid::Uuid;

use crate::by_hand::{ByHand, commits};
use crate::domain::{Account, Deposit, Deposited, Ledger};
use crate::{repository, store};

/// The length of the stream that is loaded.
const EVENTS: u64 = 1_000;

pub async fn print(engine: &Engine, table: &str) -> Result<(), Failure> {
    println!("### One command at a time\n");
    let rows = Table::new(2, &["what", "contender", "requests", "RCU", "WCU"]);
    let meter = Meter::default();
    let by_hand = ByHand { client: engine.metered_client(&meter), table: table.to_owned() };
    let accounts: Repository<Account> = repository(engine.metered_client(&meter), table)?;
    let row = |what: &str, contender: &str, usage: Usage| {
        let numbers = [usage.requests, usage.read_units, usage.write_units].map(count);
        rows.row(&[&[what.to_owned(), contender.to_owned()][..], &numbers].concat());
    };

    let id = Uuid::now_v7().to_string();
    by_hand.create(&id).await?;
    row("creation", "SDK loop", meter.take());
    accounts.create(&id, Deposit).await?;
    row("creation", "this framework", meter.take());

    // Another writer appends a commit after the load.
    let version = by_hand.load(&id).await?;
    let other = ByHand { client: engine.client(), table: table.to_owned() };
    other.put(&id, version).await?;
    if !by_hand.put(&id, version).await? {
        by_hand.execute(&id).await?;
    }
    row("a race lost to one commit", "SDK loop", meter.take());
    let others: Repository<Account> = repository(engine.client(), table)?;
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let decide = async |_: &Account, _: &_| {
        if is_first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            others.execute(&id, Deposit).await?;
        }
        Ok::<Events<Account>, Failure>(Deposited::new().into())
    };
    accounts.decide(&id, decide).await.map_err(|error| error.to_string())?;
    row("a race lost to one commit", "this framework", meter.take());

    let ledgers: Repository<Ledger> = repository(engine.metered_client(&meter), table)?;
    ledgers.create(&id, Deposit).await?;
    ledgers.flush().await;
    let command = Usage { requests: 1.0, read_units: 0.0, write_units: 1.0 };
    let written = meter.take();
    let snapshot = Usage {
        requests: written.requests - command.requests,
        read_units: written.read_units,
        write_units: written.write_units - command.write_units,
    };
    row("a snapshot of 20 KB", "this framework", snapshot);

    let id = Uuid::now_v7().to_string();
    for stream in [format!("raw#{id}"), format!("account#{id}")] {
        tables::fill(&engine.client(), table, commits(&stream, EVENTS)).await?;
    }
    // Takes the snapshot that is due.
    let filler: Repository<Account> = Repository::new(store(engine.client(), table)?);
    filler.execute(&id, Deposit).await?;
    filler.flush().await;
    by_hand.load(&id).await?;
    row("a load of 1,000 events", "SDK loop", meter.take());
    repository::<Account>(engine.metered_client(&meter), table)?.load(&id).await?;
    row("a load of 1,000 events, snapshot every 100", "this framework", meter.take());
    Ok(())
}
