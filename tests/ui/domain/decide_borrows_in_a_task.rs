include!("../account.rs");

pub struct Register;

impl Register {
    async fn owner(&self, _: &str) -> String {
        "Ann".to_owned()
    }
}

/// Stands for `tokio::spawn`.
fn spawn(_: impl Future<Output = ()> + Send + 'static) {}

pub fn open(accounts: Repository<Account>, register: Register) {
    spawn(async move {
        let decide = async |_: &Account, ctx: &Context<Account>| {
            let owner = register.owner(ctx.id()).await;
            Ok::<_, std::convert::Infallible>(Opened { owner }.into())
        };
        let _ = accounts.decide(&"ann".to_owned(), decide).await;
    });
}
