//! Items, their keys, and their sizes as DynamoDB computes them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::names;

/// An item, as the SDK represents it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Returns the key of an item.
pub(crate) fn key(partition: impl Into<String>, sort: impl Into<String>) -> Item {
    Item::from([
        (names::PARTITION_KEY.to_owned(), AttributeValue::S(partition.into())),
        (names::SORT_KEY.to_owned(), AttributeValue::S(sort.into())),
    ])
}

/// Checks the format number of an item whose kind has only one format so far. The error is the problem with the item.
pub(crate) fn check_format(item: &Item) -> Result<(), String> {
    match item.get(names::FORMAT) {
        None => Ok(()),
        Some(AttributeValue::N(format)) if format == "1" => Ok(()),
        Some(AttributeValue::N(format)) => Err(unknown_format(format)),
        Some(_) => Err(format!("the attribute `{}` is not a number", names::FORMAT)),
    }
}

/// Returns the problem of an item with an unknown format.
pub(crate) fn unknown_format(format: &str) -> String {
    // The item could contain any number.
    let format: String = format.chars().take(10).collect();
    format!("it has the format {format}, which this version does not support: update es-dynamo")
}

/// Returns the size of an item in bytes
/// ([item sizes](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html)).
pub(crate) fn item_size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| name.len() as u64 + value_size(value)).sum()
}

/// Returns the size of an attribute's value in bytes.
pub(crate) fn value_size(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::S(text) => text.len() as u64,
        AttributeValue::N(number) => number_size(number),
        AttributeValue::B(bytes) => bytes.as_ref().len() as u64,
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::Ss(texts) => texts.iter().map(|text| text.len() as u64).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|number| number_size(number)).sum(),
        AttributeValue::Bs(all) => all.iter().map(|bytes| bytes.as_ref().len() as u64).sum(),
        // Three bytes for the list or map itself, and one for each of its values.
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + value_size(value)).sum::<u64>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() as u64 + value_size(value)).sum::<u64>()
        }
        _ => 0,
    }
}

/// Returns the approximate size of a number: one byte per two significant digits, one more, and one for a minus sign.
fn number_size(number: &str) -> u64 {
    let digits = number.bytes().filter(u8::is_ascii_digit).count() as u64;
    digits.div_ceil(2) + 1 + u64::from(number.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_names_and_nested_values() {
        let item = Item::from([
            ("pk".to_owned(), AttributeValue::S("order#ü".to_owned())), // 2 + 8
            ("lv".to_owned(), AttributeValue::N("12345".to_owned())),   // 2 + 3 + 1
            (
                "ev".to_owned(), // 2 + 3
                AttributeValue::L(vec![AttributeValue::M(Item::from([
                    ("t".to_owned(), AttributeValue::S("Placed".to_owned())), // 1 + 3, 1 + 1 + 6
                ]))]),
            ),
        ]);
        assert_eq!(item_size(&item), 10 + 6 + 5 + 4 + 8);
    }
}
