//! A proxy between a store and the server that cuts the connection at one message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that forwards messages of PostgreSQL's protocol in both directions, and counts them. Clones share it.
#[derive(Clone)]
pub(crate) struct Proxy {
    port: u16,
    messages: Arc<Messages>,
}

/// The messages since the proxy was armed.
#[derive(Default)]
struct Messages {
    passed: AtomicU64,
    cut_at: AtomicU64,
    is_cut: AtomicBool,
}

impl Messages {
    /// Counts a message, and returns whether it is forwarded.
    fn pass(&self) -> bool {
        let is_cut = self.passed.fetch_add(1, Ordering::SeqCst) == self.cut_at.load(Ordering::SeqCst);
        if is_cut {
            self.is_cut.store(true, Ordering::SeqCst);
        }
        !is_cut
    }
}

impl Proxy {
    /// Starts a proxy in front of the server at `host` and `port`.
    pub(crate) async fn start(host: String, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = Self {
            port: listener.local_addr().expect("an address").port(),
            messages: Arc::new(Messages { cut_at: AtomicU64::new(u64::MAX), ..Messages::default() }),
        };
        let messages = Arc::clone(&proxy.messages);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((host.as_str(), port)).await.expect("connects to the server");
                client.set_nodelay(true).expect("sets an option");
                server.set_nodelay(true).expect("sets an option");
                let messages = Arc::clone(&messages);
                tokio::spawn(async move {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    // Both connections are closed when one direction ends.
                    tokio::select! {
                        () = forward(from_client, to_server, true, &messages) => {}
                        () = forward(from_server, to_client, false, &messages) => {}
                    }
                });
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts a connection instead of forwarding the message with this number, counted from 0 and from now on.
    pub(crate) fn cut_at(&self, message: u64) {
        self.messages.is_cut.store(false, Ordering::SeqCst);
        self.messages.cut_at.store(message, Ordering::SeqCst);
        self.messages.passed.store(0, Ordering::SeqCst);
    }

    /// Returns whether a connection was cut.
    pub(crate) fn has_cut(&self) -> bool {
        self.messages.is_cut.load(Ordering::SeqCst)
    }
}

/// Forwards messages until the connection ends. The first message of a client has no type.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_untyped: bool, messages: &Messages) {
    loop {
        let header = if is_untyped { 4 } else { 5 };
        let mut message = vec![0; header];
        if from.read_exact(&mut message).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(message[header - 4..].try_into().expect("four bytes"));
        // The length includes itself, but not the type.
        message.resize(header + length as usize - 4, 0);
        if from.read_exact(&mut message[header..]).await.is_err()
            || !messages.pass()
            || to.write_all(&message).await.is_err()
        {
            return;
        }
        is_untyped = false;
    }
}
