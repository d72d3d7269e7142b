//! Requests for two accounts at once.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::accounts::AMOUNT;
use super::body::Fields;
use super::problem::Problem;
use super::views::{self, AccountView, TransferView};
use crate::Bank;
use crate::domain::{AccountEvent, AccountId, Money};
use crate::service::Wish;

/// `POST /transfers`
pub async fn transfer(State(bank): State<Bank>, wish: Wish, fields: Fields) -> Result<Response, Problem> {
    let [from, to, amount] = fields.exactly(["from", "to", "amount"])?;
    let from: AccountId = from.read("the id of the account that the money comes from")?;
    let to: AccountId = to.read("the id of the account that gets the money")?;
    let amount: Money = amount.read(AMOUNT)?;
    let outcome = bank.transfer(from, to, amount, &wish).await?;
    let sent = match outcome.events.as_slice() {
        [AccountEvent::TransferSent(sent)] if sent.to == to && sent.amount == amount => sent,
        _ => return Err(Problem::key_reused()),
    };
    let body = TransferView {
        id: sent.transfer,
        amount,
        from: AccountView::new(from, &outcome.state, outcome.version),
        to,
    };
    Ok(views::replayed(Json(body).into_response(), outcome.repeated))
}
