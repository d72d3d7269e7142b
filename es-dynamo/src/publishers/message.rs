//! Envelopes as messages of text, and the entries of batches.

use es_core::publish::{Envelope, PublishError};
#[cfg(any(feature = "sns", feature = "sqs"))]
use sha2::{Digest, Sha256};

/// The maximum number of messages in a request of EventBridge, SNS, and SQS.
pub(super) const MAX_MESSAGES: usize = 10;

/// Returns the body of an envelope as text.
pub(super) fn text<'a>(envelope: &'a Envelope, service: &str) -> Result<&'a str, PublishError> {
    std::str::from_utf8(envelope.body()).map_err(|_| {
        PublishError::permanent(format!("{service} accepts only text: encode the message in UTF-8"))
    })
}

/// Returns the body of an envelope as text that SQS and SNS accept: at least one character, and
/// [only characters of XML](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html).
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) fn xml_text<'a>(envelope: &'a Envelope, service: &str) -> Result<&'a str, PublishError> {
    let text = text(envelope, service)?;
    if text.is_empty() {
        return Err(PublishError::permanent(format!("{service} does not accept an empty message")));
    }
    match text.chars().find(|&char| !is_xml(char)) {
        None => Ok(text),
        Some(char) => Err(PublishError::permanent(format!(
            "{service} does not accept the character U+{:04X}: escape it in the message",
            u32::from(char)
        ))),
    }
}

#[cfg(any(feature = "sns", feature = "sqs"))]
fn is_xml(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The type of a message attribute with a string.
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) const STRING: &str = "String";

/// Returns the attributes of a message: the name and the value of each.
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) fn attributes(envelope: &Envelope) -> impl Iterator<Item = (&'static str, &str)> {
    let attributes = [("content-type", envelope.content_type()), ("event-name", envelope.name())];
    // Neither service accepts an empty value.
    attributes.into_iter().filter(|(_, value)| !value.is_empty() && value.chars().all(is_xml))
}

/// Returns the size of a message with its attributes, in bytes.
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) fn size(envelope: &Envelope) -> usize {
    let attributes = attributes(envelope).map(|(name, value)| name.len() + STRING.len() + value.len());
    envelope.body().len() + attributes.sum::<usize>()
}

/// The maximum length of a message group id in characters.
#[cfg(any(feature = "sns", feature = "sqs"))]
const MAX_GROUP_CHARS: usize = 128;

/// Returns the message group id of an envelope: the name of its stream or, if the service does not allow it, the name's
/// SHA-256 digest in hexadecimal.
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) fn group_id(envelope: &Envelope) -> String {
    let name = envelope.stream().as_str();
    if name.len() <= MAX_GROUP_CHARS && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        name.to_owned()
    } else {
        Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The outcomes of a batch whose entries have their indexes as ids.
#[cfg(any(feature = "sns", feature = "sqs"))]
pub(super) struct Outcomes(Vec<Result<(), PublishError>>);

#[cfg(any(feature = "sns", feature = "sqs"))]
impl Outcomes {
    /// Makes the entries of a batch with `entry`, which gets the index of each envelope. An envelope without an entry
    /// has its error as the outcome. An entry that the response does not contain is sent again.
    pub(super) fn of_entries<T>(
        batch: &[Envelope],
        entry: impl Fn(usize, &Envelope) -> Result<T, PublishError>,
    ) -> (Self, Vec<T>) {
        let missing = PublishError::transient("the response does not say whether the message was accepted");
        let mut entries = Vec::with_capacity(batch.len());
        let outcomes = batch.iter().enumerate().map(|(index, envelope)| {
            entries.push(entry(index, envelope)?);
            Err(missing.clone())
        });
        (Self(outcomes.collect()), entries)
    }

    pub(super) fn set(&mut self, id: &str, outcome: Result<(), PublishError>) {
        if let Some(entry) = id.parse().ok().and_then(|index: usize| self.0.get_mut(index)) {
            *entry = outcome;
        }
    }

    pub(super) fn into_vec(self) -> Vec<Result<(), PublishError>> {
        self.0
    }
}
