//! A proxy between a contender and the server. It counts round trips, and holds a transaction open before its `COMMIT`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::Failure;

/// What happens to a `COMMIT` that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Forwarded,
    /// The connection is closed, and the server rolls back.
    Killed,
    /// The server commits, and the connection is closed before it responds.
    Unanswered,
}

/// Clones share the proxy.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    round_trips: AtomicU64,
    holds: AtomicBool,
    held: Mutex<Option<oneshot::Sender<End>>>,
}

impl Proxy {
    /// Starts a proxy in front of the server.
    pub async fn start((host, port): (String, u16)) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self { port: listener.local_addr()?.port(), state: Arc::default() };
        let state = Arc::clone(&proxy.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                tokio::spawn(connection(client, server, Arc::clone(&state)));
            }
        });
        Ok(proxy)
    }

    /// Returns the number of round trips since the last call: requests that the server answers with `ReadyForQuery`.
    pub fn take_round_trips(&self) -> u64 {
        self.state.round_trips.swap(0, Ordering::SeqCst)
    }

    /// Sets whether the next `COMMIT` is held.
    pub fn hold(&self, holds: bool) {
        self.state.holds.store(holds, Ordering::SeqCst);
    }

    pub fn is_holding(&self) -> bool {
        self.state.held.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends the wait of a held `COMMIT`. Returns whether one was held.
    pub fn end(&self, end: End) -> bool {
        let held = self.state.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.is_some_and(|held| held.send(end).is_ok())
    }
}

/// Forwards messages until either side closes the connection, or it is killed.
async fn connection(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let is_muted = AtomicBool::new(false);
    tokio::select! {
        () = requests(from_client, to_server, &state, &is_muted) => {}
        () = responses(from_server, to_client, &is_muted) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, is_muted: &AtomicBool) {
    // The first message of a client has no type.
    let (mut is_typed, mut is_statement) = (false, false);
    while let Some(message) = read(&mut from, is_typed).await {
        match message[0] {
            // The pools of sqlx send a `Sync` alone to test a connection after its use, for which no client waits.
            b'S' if is_typed => {
                state.round_trips.fetch_add(u64::from(is_statement), Ordering::SeqCst);
                is_statement = false;
            }
            b'Q' if is_typed => {
                state.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            _ => is_statement = is_typed,
        }
        is_typed = true;
        if message.starts_with(b"Q")
            && message[5..].starts_with(b"COMMIT")
            && state.holds.load(Ordering::SeqCst)
        {
            let (held, end) = oneshot::channel();
            *state.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
            match end.await {
                Ok(End::Forwarded) => {}
                Ok(End::Unanswered) => is_muted.store(true, Ordering::SeqCst),
                Ok(End::Killed) | Err(_) => return,
            }
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn responses(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_muted: &AtomicBool) {
    while let Some(message) = read(&mut from, true).await {
        if is_muted.load(Ordering::SeqCst) {
            return;
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// Reads a message of PostgreSQL's protocol; `None` if the connection has ended.
async fn read(from: &mut OwnedReadHalf, is_typed: bool) -> Option<Vec<u8>> {
    let header = if is_typed { 5 } else { 4 };
    let mut message = vec![0; header];
    from.read_exact(&mut message).await.ok()?;
    // The length includes itself, but not the type.
    let length = u32::from_be_bytes(message[header - 4..].try_into().ok()?);
    message.resize(header + (length as usize).checked_sub(4)?, 0);
    from.read_exact(&mut message[header..]).await.ok()?;
    Some(message)
}
