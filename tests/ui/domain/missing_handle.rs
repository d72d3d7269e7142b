include!("../account.rs");

pub struct Close;

pub async fn close(accounts: Repository<Account>) {
    let _ = accounts.execute(&"ann".to_owned(), Close).await;
}
