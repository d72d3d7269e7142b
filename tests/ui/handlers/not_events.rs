include!("../applied.rs");

#[event]
pub struct Shipped;

pub struct Ship;
pub struct Pack;

#[handlers]
impl Account {
    #[handle]
    fn ship(&self, _: &Ship) -> Option<Shipped> {
        Some(Shipped)
    }

    #[handle]
    fn pack(&self, _: &Pack) -> (Closed, Shipped) {
        (Closed, Shipped)
    }

    #[handle]
    fn open(&self, command: &Open) -> Result<String, Rejected> {
        Ok(command.owner.clone())
    }
}
