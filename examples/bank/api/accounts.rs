//! Requests for one account, and the list of all.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use es_core::read_model::RowPage;
use es_core::{Handle, Outcome};
use serde::Serialize;
use uuid::Uuid;

use super::body::Fields;
use super::conditional::{etag, if_none_match};
use super::headers::Target;
use super::page::PageRequest;
use super::problem::Problem;
use super::views;
use crate::Bank;
use crate::domain::{
    Account, AccountError, AccountEvent, AccountId, AccountNumber, Close, Deposit, Money, Open, Withdraw,
};
use crate::service::Wish;

/// The description of an amount in error messages.
pub const AMOUNT: &str = "a whole number of cents, such as 500";

/// `POST /accounts`
pub async fn open(State(bank): State<Bank>, wish: Wish, fields: Fields) -> Result<Response, Problem> {
    let [owner, number] = fields.exactly(["owner", "number"])?;
    let owner: String = owner.read("the owner's name")?;
    let number: AccountNumber = number.read("an account number: 6 to 34 letters and digits")?;
    // Idempotency keys belong to an account, and a repeated request must target the account that the first one opened,
    // so the id is derived from the key.
    let id = AccountId(wish.key.unwrap_or_else(Uuid::now_v7));
    let command = Open { owner, number };
    let outcome = bank.execute(id, command.clone(), &wish).await?;
    require_same_request(&outcome, |events| match events {
        [AccountEvent::AccountOpened(it)] => {
            it.owner == command.owner.trim() && it.number == command.number.as_str()
        }
        _ => false,
    })?;
    Ok(views::created(id, &outcome))
}

/// `GET /accounts`
///
/// A projection keeps the list, so that a new account is in it a moment later. The token of the projection is the
/// cursor.
pub async fn list(State(bank): State<Bank>, page: PageRequest) -> Result<Json<AccountsPage>, Problem> {
    let RowPage { rows, next, .. } = bank.ids.page(page.limit, page.cursor).await?;
    Ok(Json(AccountsPage { accounts: rows, next }))
}

/// A page of the ids of all accounts, in an unspecified order.
#[derive(Serialize)]
pub struct AccountsPage {
    accounts: Vec<AccountId>,
    /// The cursor of the next page; `null` on the last one.
    next: Option<String>,
}

/// `GET /accounts/{id}`
pub async fn get(
    State(bank): State<Bank>,
    Target(id): Target,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let loaded = bank.accounts.load(&id).await?;
    if !loaded.exists() {
        return Err(AccountError::Unknown.into());
    }
    if if_none_match(&headers, loaded.version)? {
        return Ok((StatusCode::NOT_MODIFIED, AppendHeaders([etag(loaded.version)])).into_response());
    }
    Ok(views::found(id, &loaded.state, loaded.version))
}

/// `POST /accounts/{id}/deposits`
pub async fn deposit(
    State(bank): State<Bank>,
    Target(id): Target,
    wish: Wish,
    fields: Fields,
) -> Result<Response, Problem> {
    let [amount] = fields.exactly(["amount"])?;
    let amount: Money = amount.read(AMOUNT)?;
    change(
        &bank,
        id,
        Deposit { amount },
        &wish,
        |events| matches!(events, [AccountEvent::Deposited(it)] if it.amount == amount),
    )
    .await
}

/// `POST /accounts/{id}/withdrawals`
pub async fn withdraw(
    State(bank): State<Bank>,
    Target(id): Target,
    wish: Wish,
    fields: Fields,
) -> Result<Response, Problem> {
    let [amount] = fields.exactly(["amount"])?;
    let amount: Money = amount.read(AMOUNT)?;
    change(
        &bank,
        id,
        Withdraw { amount },
        &wish,
        |events| matches!(events, [AccountEvent::Withdrawn(it)] if it.amount == amount),
    )
    .await
}

/// `DELETE /accounts/{id}`
pub async fn close(State(bank): State<Bank>, Target(id): Target, wish: Wish) -> Result<Response, Problem> {
    let outcome = bank.execute(id, Close, &wish).await?;
    require_same_request(&outcome, |events| matches!(events, [] | [AccountEvent::AccountClosed(_)]))?;
    Ok(views::replayed(StatusCode::NO_CONTENT.into_response(), outcome.repeated))
}

/// Executes a command. `are_expected` recognizes its events.
async fn change<C>(
    bank: &Bank,
    id: AccountId,
    command: C,
    wish: &Wish,
    are_meant: impl Fn(&[AccountEvent]) -> bool,
) -> Result<Response, Problem>
where
    Account: Handle<C, Error = AccountError>,
    C: Send + Sync + 'static,
{
    let outcome = bank.execute(id, command, wish).await?;
    require_same_request(&outcome, are_meant)?;
    Ok(views::changed(id, &outcome))
}

/// Checks that the outcome belongs to this request: under a reused key, it is the outcome of the first request, whose
/// events differ.
fn require_same_request(
    outcome: &Outcome<Account>,
    are_meant: impl Fn(&[AccountEvent]) -> bool,
) -> Result<(), Problem> {
    if !are_meant(&outcome.events) {
        return Err(Problem::key_reused());
    }
    Ok(())
}
