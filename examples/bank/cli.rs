//! The options of the command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bank::Settings;
use clap::Parser;

use crate::place::Place;

/// A bank with an HTTP API that stores its accounts as events in a DynamoDB table or a
/// PostgreSQL database.
///
/// Without options, everything runs in this process, on an embedded DynamoDB engine: it needs no AWS account and no
/// server, and stores nothing permanently.
#[derive(Debug, Parser)]
#[command(name = "bank", max_term_width = 100)]
pub struct Options {
    /// Listen on this port of 127.0.0.1 (0: any free port)
    #[arg(long, default_value_t = 0)]
    port: u16,

    #[command(flatten)]
    pub place: Place,

    /// Record the header X-Actor as the actor of a request. Only for a bank behind a proxy that authenticates clients
    /// and replaces the header: any other client can claim to be anyone
    #[arg(long)]
    trust_actor_header: bool,

    /// The maximum number of open connections
    #[arg(long, value_name = "COUNT", default_value = "1024")]
    max_connections: NonZeroUsize,

    /// Serve metrics for Prometheus at http://ADDRESS/metrics, such as 127.0.0.1:9464 (port 0: any free port)
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,

    /// The time that requests in progress may take at shutdown, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_timeout: u64,
}

impl Options {
    /// Returns the port to listen on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address for metrics, if they are served.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Returns the settings of the server.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.trust_actor_header = self.trust_actor_header;
        settings.max_connections = self.max_connections;
        settings.shutdown_timeout = Duration::from_secs(self.shutdown_timeout);
        settings
    }

    /// Returns commands to try when the bank listens at `address`.
    pub fn greeting(&self, address: SocketAddr) -> String {
        GREETING.replace("PLACE", &self.place.describe()).replace("ADDRESS", &address.to_string())
    }
}

/// Commands for one shell: later ones use variables that earlier ones set.
const GREETING: &str = r#"The bank is open at http://ADDRESS. Its accounts are kept PLACE. Try, in another terminal:

  open() { curl -sD- -o/dev/null http://ADDRESS/accounts --json "$1" | sed -n 's|^location: /accounts/||p' | tr -d '\r'; }
  ANN=$(open '{"owner": "Ann", "number": "DE 1000 0001"}')
  BOB=$(open '{"owner": "Bob", "number": "DE 1000 0002"}')
  curl -i http://ADDRESS/accounts/$ANN/deposits -H 'X-Request-Id: r-1' --json '{"amount": 50000}'
  curl -i http://ADDRESS/accounts/$ANN/withdrawals -H 'If-Match: "2"' --json '{"amount": 10000}'
  curl -i http://ADDRESS/transfers -H 'Idempotency-Key: rent-may' --json '{"from": "'$ANN'", "to": "'$BOB'", "amount": 30000}'
  curl -i http://ADDRESS/transfers -H 'Idempotency-Key: rent-may' --json '{"from": "'$ANN'", "to": "'$BOB'", "amount": 30000}'
  curl -i http://ADDRESS/accounts/$ANN -H 'If-None-Match: "4"'
  curl -i http://ADDRESS/accounts/$ANN/withdrawals --json '{"amount": 99999}'
  curl -i http://ADDRESS/accounts --json '{"owner": "Carl", "number": "DE10000001"}'
  curl -s "http://ADDRESS/accounts/$ANN/history?limit=10"
  curl -s "http://ADDRESS/accounts?limit=10"
  curl -s http://ADDRESS/health

Ctrl-C or SIGTERM closes it."#;
