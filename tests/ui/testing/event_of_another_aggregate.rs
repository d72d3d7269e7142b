include!("../account.rs");

use es_core::testing::given;

#[event]
pub struct Shipped;

pub struct Close;

#[handlers]
impl Account {
    #[handle]
    fn close(&self, _: &Close) -> Closed {
        Closed
    }
}

pub fn test() {
    given::<Account>([Shipped]).when(Close).then(Shipped);
}
