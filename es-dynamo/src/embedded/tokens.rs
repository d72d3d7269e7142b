//! Idempotency of transactions by their `ClientRequestToken`.
//!
//! The engine also has this feature, but each transaction visits every token of the last ten minutes, so transactions
//! become slower the more there are. Here, the cost of a transaction does not depend on the number of earlier ones.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use dynoxide::DynoxideError;
use dynoxide::actions::transact_write_items::{
    TransactWriteItem, TransactWriteItemsRequest as Request, TransactWriteItemsResponse as Response,
};

/// The number of remembered transactions. DynamoDB remembers the transactions of the last ten minutes; retries occur
/// much earlier.
const CAPACITY: usize = 50_000;

/// The maximum length of a token that the engine accepts.
const MAX_TOKEN_LEN: usize = 36;

/// The most recent transactions.
#[derive(Default)]
pub(crate) struct Tokens {
    outcomes: HashMap<String, Outcome>,
    /// The tokens, oldest first.
    order: VecDeque<String>,
}

struct Outcome {
    items: u64,
    response: Response,
}

impl Tokens {
    /// Returns the response to an earlier transaction with the token of `request`, or executes the transaction.
    ///
    /// A failed transaction is not remembered. A repeated transaction reports the capacity units of the first
    /// execution, whereas DynamoDB reports the units of reading its items.
    pub(crate) fn transact(
        &mut self,
        mut request: Request,
        execute: impl FnOnce(Request) -> Result<Response, DynoxideError>,
    ) -> Result<Response, DynoxideError> {
        // The engine rejects tokens of other lengths.
        let is_valid = |token: &mut String| (1..=MAX_TOKEN_LEN).contains(&token.len());
        let Some(token) = request.client_request_token.take_if(is_valid) else {
            return execute(request);
        };
        let items = hash(&request.transact_items)?;
        match self.outcomes.get(&token) {
            Some(earlier) if earlier.items == items => return Ok(earlier.response.clone()),
            Some(_) => {
                let message = "the token was used for a transaction with other items";
                return Err(DynoxideError::IdempotentParameterMismatchException(message.to_owned()));
            }
            None => {}
        }
        let response = execute(request)?;
        if self.order.len() == CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
        self.order.push_back(token.clone());
        self.outcomes.insert(token, Outcome { items, response: response.clone() });
        Ok(response)
    }
}

/// Returns a hash that does not depend on the order of attributes.
fn hash(items: &[TransactWriteItem]) -> Result<u64, DynoxideError> {
    let mut items =
        serde_json::to_value(items).map_err(|error| DynoxideError::InternalServerError(error.to_string()))?;
    items.sort_all_objects();
    let mut hasher = DefaultHasher::new();
    items.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: &str, sort_key: &str) -> Request {
        let put = serde_json::json!({ "TransactItems": [{ "Put": {
            "TableName": "events", "Item": { "pk": { "S": "a" }, "sk": { "S": sort_key } },
        } }], "ClientRequestToken": token });
        serde_json::from_value(put).expect("a request")
    }

    #[test]
    fn executes_a_transaction_once() {
        let mut tokens = Tokens::default();
        let mut executed = 0;
        for _ in 0..3 {
            let response = tokens.transact(request("one", "1"), |request| {
                assert_eq!(request.client_request_token, None, "the engine keeps it for ten minutes");
                executed += 1;
                Ok(Response::default())
            });
            response.expect("succeeds");
        }
        assert_eq!(executed, 1);
        let error =
            tokens.transact(request("one", "2"), |_| panic!("not executed")).expect_err("other items");
        assert!(matches!(error, DynoxideError::IdempotentParameterMismatchException(_)), "{error:?}");
    }

    #[test]
    fn executes_a_failed_transaction_again() {
        let mut tokens = Tokens::default();
        let failure = || DynoxideError::InternalServerError("on purpose".to_owned());
        tokens.transact(request("one", "1"), |_| Err(failure())).expect_err("fails");
        let mut is_executed = false;
        let repeated = tokens.transact(request("one", "1"), |_| {
            is_executed = true;
            Ok(Response::default())
        });
        repeated.expect("succeeds");
        assert!(is_executed);
    }

    #[test]
    fn remembers_a_bounded_number_of_transactions() {
        let mut tokens = Tokens::default();
        let mut executed = 0;
        let mut run = |number: usize| {
            tokens
                .transact(request(&number.to_string(), "1"), |_| {
                    executed += 1;
                    Ok(Response::default())
                })
                .expect("succeeds");
            assert_eq!(tokens.order.len(), tokens.outcomes.len());
            assert!(tokens.order.len() <= CAPACITY);
            executed
        };
        for number in 0..CAPACITY {
            run(number);
        }
        assert_eq!(run(0), CAPACITY, "is remembered");
        assert_eq!(run(CAPACITY), CAPACITY + 1);
        assert_eq!(run(1), CAPACITY + 1, "is remembered");
        assert_eq!(run(0), CAPACITY + 2, "is forgotten");
    }

    #[test]
    fn leaves_invalid_tokens_to_the_engine() {
        for token in ["", &"x".repeat(37)] {
            let executed = Tokens::default().transact(request(token, "1"), |request| {
                assert_eq!(request.client_request_token.as_deref(), Some(token));
                Ok(Response::default())
            });
            executed.expect("passes it on");
        }
    }
}
