//! Schemas of the standard library, `chrono`, and `uuid`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::{Schema, Types};

/// Types whose shape is determined by their name.
macro_rules! named {
    ($($ty:ty),* $(,)?) => {
        $(impl Schema for $ty {
            fn describe(_: &mut Types) {}
        })*
    };
}

named! {
    (), bool, char, str, String, f32, f64,
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize,
    std::time::Duration, uuid::Uuid,
    chrono::NaiveDate, chrono::NaiveTime, chrono::NaiveDateTime,
}

impl<Z: chrono::TimeZone> Schema for chrono::DateTime<Z> {
    fn describe(_: &mut Types) {}
}

/// Generic types that contain values of their parameters.
macro_rules! holds {
    ($($ty:ident<$($of:ident),*>),* $(,)?) => {
        $(impl<$($of: Schema),*> Schema for $ty<$($of),*> {
            fn describe(types: &mut Types) {
                $($of::describe(types);)*
            }
        })*
    };
}

holds! {
    Option<T>, Vec<T>, VecDeque<T>, Box<T>, Rc<T>, Arc<T>, BTreeSet<T>, BTreeMap<K, V>, Result<T, E>,
}

impl<T: Schema, S> Schema for HashSet<T, S> {
    fn describe(types: &mut Types) {
        T::describe(types);
    }
}

impl<K: Schema, V: Schema, S> Schema for HashMap<K, V, S> {
    fn describe(types: &mut Types) {
        K::describe(types);
        V::describe(types);
    }
}

impl<T: Schema, const N: usize> Schema for [T; N] {
    fn describe(types: &mut Types) {
        T::describe(types);
    }
}

impl<T: Schema> Schema for [T] {
    fn describe(types: &mut Types) {
        T::describe(types);
    }
}

impl<T: Schema + ToOwned + ?Sized> Schema for Cow<'_, T> {
    fn describe(types: &mut Types) {
        T::describe(types);
    }
}

macro_rules! tuples {
    ($(($($of:ident),*)),* $(,)?) => {
        $(impl<$($of: Schema),*> Schema for ($($of,)*) {
            fn describe(types: &mut Types) {
                $($of::describe(types);)*
            }
        })*
    };
}

tuples! { (A), (A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E), (A, B, C, D, E, F) }
