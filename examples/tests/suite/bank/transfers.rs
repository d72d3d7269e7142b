//! Transfers.

use serde_json::json;

use super::client::{id, server};

const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn both_accounts_record_a_transfer() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let bob = api.account("Bob", "DE100002", 7).await;
    let done = api.transfer(&ann, &bob, 200).header("x-actor", "ann").send().await;
    let body = done.expect(200);
    assert_eq!((&body["from"]["balance"], &body["from"]["version"]), (&json!(300), &json!(3)));
    // The other account's balance is not revealed.
    assert_eq!(body["to"], id(&bob));
    assert!(!String::from_utf8_lossy(&done.body).contains("Bob"));
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (300, 207));

    let (sent, received) = (api.history(&ann).await.remove(2), api.history(&bob).await.remove(2));
    assert_eq!((&sent["event"], &received["event"]), (&json!("transfer-sent"), &json!("transfer-received")));
    assert_eq!((&sent["to"], &received["from"]), (&json!(id(&bob)), &json!(id(&ann))));
    for half in [sent, received] {
        assert_eq!(
            (&half["transfer"], &half["amount"], &half["actor"]),
            (&body["id"], &json!(200), &json!("ann"))
        );
    }
}

#[tokio::test]
async fn a_transfer_that_is_rejected_moves_nothing() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let bob = api.account("Bob", "DE100002", 0).await;
    let closed = api.account("Carl", "DE100003", 0).await;
    assert_eq!(api.delete(&closed).send().await.status, 204);

    let overdrawn = api.transfer(&ann, &bob, 501).send().await.expect_problem(422, "overdrawn");
    assert_eq!((&overdrawn["balance"], &overdrawn["account"]), (&json!(500), &json!(id(&ann))));
    api.transfer(&ann, &ann, 1).send().await.expect_problem(422, "same-account");
    api.transfer(&ann, &bob, 0).send().await.expect_problem(422, "no-amount");
    for (from, to, who, status, kind) in [
        (UNKNOWN, id(&bob), UNKNOWN, 404, "unknown-account"),
        (id(&ann), UNKNOWN, UNKNOWN, 404, "unknown-account"),
        (id(&closed), id(&bob), id(&closed), 422, "account-closed"),
        (id(&ann), id(&closed), id(&closed), 422, "account-closed"),
    ] {
        assert_eq!(api.transfer(from, to, 1).send().await.expect_problem(status, kind)["account"], who);
    }
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (500, 0));
    assert_eq!((api.history(&ann).await.len(), api.history(&bob).await.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_transfers_keep_the_sum() {
    let api = server().await.api;
    let mut accounts = Vec::new();
    for number in ["DE100001", "DE100002", "DE100003"] {
        accounts.push(api.account("Ann", number, 1000).await);
    }
    let transfers: Vec<_> = (0..20)
        .map(|n| (accounts[n % 3].clone(), accounts[(n + 1 + n / 3 % 2) % 3].clone(), n as u64 + 1))
        .map(|(from, to, amount)| {
            let api = api.clone();
            // A client retries with the same key if the bank is busy.
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    let done = api.transfer(&from, &to, amount).key(&amount.to_string()).send().await;
                    if done.status != 503 {
                        done.expect(200);
                        return (from, to, amount);
                    }
                }
                panic!("busy a thousand times");
            })
        })
        .collect();
    let mut expected = vec![1000_i64; 3];
    for transfer in transfers {
        let (from, to, amount) = transfer.await.expect("no panic");
        for (account, expected) in accounts.iter().zip(&mut expected) {
            *expected -= if *account == from { amount as i64 } else { 0 };
            *expected += if *account == to { amount as i64 } else { 0 };
        }
    }
    let mut balances = Vec::new();
    for account in &accounts {
        balances.push(api.balance(account).await as i64);
    }
    assert_eq!(balances, expected);
    assert_eq!(balances.iter().sum::<i64>(), 3000);
}
