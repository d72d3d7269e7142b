//! Access to the schema of a type that may not have one.

#![allow(missing_docs)] // for generated code alone

use std::fmt;
use std::marker::PhantomData;

use super::{Schema, Types};

/// Describes a type if it implements [`Schema`]. Generated code calls `(&Probe::<T>::new()).describe(types)`, and
/// method resolution selects the first of the two traits below that applies.
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Probe<T> {
    #[allow(clippy::new_without_default)] // is written by macros alone
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: ?Sized> fmt::Debug for Probe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Applies to types with a schema.
pub trait DescribeSchema {
    fn describe(&self, types: &mut Types);
}

impl<T: Schema + ?Sized> DescribeSchema for Probe<T> {
    fn describe(&self, types: &mut Types) {
        T::describe(types);
    }
}

/// Applies to all types, but with one more reference, so that it is selected last.
pub trait DescribeNothing {
    fn describe(&self, types: &mut Types);
}

impl<T: ?Sized> DescribeNothing for &Probe<T> {
    fn describe(&self, _: &mut Types) {}
}
