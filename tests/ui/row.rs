// What the cases of rows import.

use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};

fn main() {}
