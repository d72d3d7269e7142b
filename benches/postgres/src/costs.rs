//! Round trips and stored bytes.

use crate::Failure;
use crate::contenders::{Delivered, Kind, reason};
use crate::plan::Plan;
use crate::proxy::Proxy;
use crate::report::median;
use crate::server::{CONNECTIONS, Server};

/// How often the round trips of an operation are counted.
const COUNTED: usize = 21;

/// The median round trips of operations on a connection on which the statements are prepared.
pub struct RoundTrips {
    pub load: u64,
    /// A command with one event, which loads the account.
    pub one: u64,
    /// A command with five events.
    pub five: u64,
}

/// The bytes of tables and indexes per event.
pub struct Size {
    /// With one event in each command.
    pub one: f64,
    /// With five events in each command.
    pub five: f64,
}

pub type Results<T> = Vec<(Kind, Result<T, String>)>;

pub async fn round_trips(server: &Server) -> Results<RoundTrips> {
    eprintln!("round trips");
    let mut all = Vec::new();
    for kind in Kind::COMMANDS {
        all.push((kind, count(server, kind).await.map_err(reason)));
    }
    all
}

async fn count(server: &Server, kind: Kind) -> Result<RoundTrips, Failure> {
    let database = server.create("round_trips").await?;
    kind.create(&database).await?;
    let proxy = Proxy::start(database.address()).await?;
    let contender = kind.open(&database.url_through(proxy.port), 1, &Delivered::default()).await?;
    for events in [1, 5, 1, 5] {
        contender.execute("ann", events).await?;
        contender.load("ann").await?;
    }
    let (mut load, mut one, mut five) = (Vec::new(), Vec::new(), Vec::new());
    proxy.take_round_trips();
    for _ in 0..COUNTED {
        contender.load("ann").await?;
        load.push(proxy.take_round_trips());
        contender.execute("ann", 1).await?;
        one.push(proxy.take_round_trips());
        contender.execute("ann", 5).await?;
        five.push(proxy.take_round_trips());
    }
    let [load, one, five] =
        [load, one, five].map(|counts| median(counts.into_iter().map(|count| count as f64)) as u64);
    drop(contender);
    server.drop(&database.name).await?;
    Ok(RoundTrips { load, one, five })
}

pub async fn sizes(server: &Server, plan: &Plan) -> Results<Size> {
    let mut all = Vec::new();
    for kind in Kind::STORES {
        eprintln!("stored bytes: {kind}");
        let size = async {
            Ok(Size { one: size(server, plan, kind, 1).await?, five: size(server, plan, kind, 5).await? })
        };
        all.push((kind, size.await.map_err(reason)));
    }
    all
}

/// The accounts have ten commands each.
async fn size(server: &Server, plan: &Plan, kind: Kind, events: u64) -> Result<f64, Failure> {
    let database = server.create("sizes").await?;
    kind.create(&database).await?;
    let contender = kind.open(&database.url(), CONNECTIONS, &Delivered::default()).await?;
    let before = database.bytes().await?;
    let commands = plan.sized_events / events;
    for command in 0..commands {
        contender.execute(&format!("account {}", command / 10), events).await?;
    }
    let grown = database.bytes().await? - before;
    drop(contender);
    server.drop(&database.name).await?;
    Ok(grown as f64 / (commands * events) as f64)
}
