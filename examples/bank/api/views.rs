//! The representations in responses. They are separate from the domain's types, so that the domain can change without
//! affecting clients.

use axum::Json;
use axum::http::header::{CONTENT_LOCATION, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use es_core::repository::Recorded;
use es_core::{Outcome, Version};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::conditional::etag;
use crate::domain::{Account, AccountEvent, AccountId, Money, Status};

/// The header that marks the outcome of an earlier request under the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An account at a version.
#[derive(Serialize)]
pub struct AccountView<'a> {
    id: AccountId,
    number: &'a str,
    owner: &'a str,
    status: Status,
    balance: Money,
    version: Version,
}

impl<'a> AccountView<'a> {
    /// Creates the view of the account `id` with the state `account` at `version`.
    pub fn new(id: AccountId, account: &'a Account, version: Version) -> Self {
        let Account { status, owner, number, balance } = account;
        Self { id, number, owner, status: *status, balance: *balance, version }
    }
}

/// A transfer. It does not reveal the state of the receiving account, which may belong to another customer.
#[derive(Serialize)]
pub struct TransferView<'a> {
    /// The transfer.
    pub id: Uuid,
    /// The amount.
    pub amount: Money,
    /// The paying account after the transfer.
    pub from: AccountView<'a>,
    /// The id of the receiving account.
    pub to: AccountId,
}

/// Returns the response with an account.
pub fn found(id: AccountId, state: &Account, version: Version) -> Response {
    (AppendHeaders([etag(version)]), Json(AccountView::new(id, state, version))).into_response()
}

/// Returns the response after an account was opened.
pub fn created(id: AccountId, outcome: &Outcome<Account>) -> Response {
    let mut response = changed(id, outcome);
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(LOCATION, location(id));
    response
}

/// Returns the response after an account was changed.
pub fn changed(id: AccountId, outcome: &Outcome<Account>) -> Response {
    let mut response = found(id, &outcome.state, outcome.version);
    response.headers_mut().insert(CONTENT_LOCATION, location(id));
    replayed(response, outcome.repeated)
}

/// Adds a header to the response if the request was a repetition.
pub fn replayed(mut response: Response, repeated: bool) -> Response {
    if repeated {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn location(id: AccountId) -> HeaderValue {
    HeaderValue::try_from(format!("/accounts/{id}")).expect("an id has no control characters")
}

/// An event in the history of an account.
#[derive(Serialize)]
pub struct EventView {
    version: Version,
    time: String,
    event: &'static str,
    actor: Option<String>,
    correlation: Option<String>,
    #[serde(flatten)]
    data: Value,
}

impl From<&Recorded<AccountEvent>> for EventView {
    fn from(recorded: &Recorded<AccountEvent>) -> Self {
        let (event, data) = match &recorded.event {
            AccountEvent::AccountOpened(it) => ("opened", json!({ "owner": it.owner, "number": it.number })),
            AccountEvent::Deposited(it) => ("deposited", json!({ "amount": it.amount })),
            AccountEvent::Withdrawn(it) => ("withdrawn", json!({ "amount": it.amount })),
            AccountEvent::TransferSent(it) => {
                ("transfer-sent", json!({ "amount": it.amount, "transfer": it.transfer, "to": it.to }))
            }
            AccountEvent::TransferReceived(it) => (
                "transfer-received",
                json!({ "amount": it.amount, "transfer": it.transfer, "from": it.from }),
            ),
            AccountEvent::AccountClosed(_) => ("closed", json!({})),
        };
        Self {
            version: recorded.version,
            time: recorded.time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            event,
            actor: recorded.metadata.actor().map(str::to_owned),
            correlation: recorded.metadata.correlation().map(str::to_owned),
            data,
        }
    }
}
