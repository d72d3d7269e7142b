macro_rules! fact {
    ($name:ident) => {
        #[es_core::event(crate = $crate::es_core)]
        pub struct $name;
    };
}

pub use es_core;

fact!(Placed);

fn main() {}
