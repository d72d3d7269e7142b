//! Executes the commands of the HTTP API.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use es_core::Repository;
use lambda_example::account::Account;
use lambda_example::{http, log_as_json, open_store};
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_as_json();
    let accounts: &Repository<Account> = &Repository::new(open_store().await?);
    lambda_runtime::run(service_fn(|event: LambdaEvent<ApiGatewayV2httpRequest>| async move {
        let response = http::respond(accounts, &event.payload).await;
        // Lambda freezes the process after the response, so nothing may remain to be written in the background.
        accounts.flush().await;
        Ok::<_, Error>(response)
    }))
    .await
}
