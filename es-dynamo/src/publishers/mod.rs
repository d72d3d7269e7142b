//! Publishing to the brokers of AWS, each behind a feature.
//!
//! A publisher sends the envelopes of a [`Publishing`](es_core::publish::Publishing) to one destination. It makes
//! requests within the limits of the service, and reports for each envelope whether the service accepted it.
//!
//! | publisher | feature | order within a stream | duplicates |
//! |---|---|---|---|
//! | `KinesisPublisher` | `kinesis` | kept | possible |
//! | `SqsPublisher` | `sqs` | kept by FIFO queues, not by standard queues | removed by FIFO queues for 5 minutes |
//! | `SnsPublisher` | `sns` | kept by FIFO topics, not by standard topics | removed by FIFO topics for 5 minutes |
//! | `EventBridgePublisher` | `eventbridge` | not kept | possible |
//!
//! All of them accept events in the order of their stream: an event is sent after the earlier ones of its stream were
//! accepted, even if parts of a request fail. The table says whether the service also *delivers* them in this order.
//!
//! # Errors
//!
//! An envelope that the service can never accept, such as one with a character that it does not allow, fails
//! permanently. All other errors are transient, including missing permissions, expired credentials, and a destination
//! that does not exist: the publisher waits for them as for an outage.

mod errors;
#[cfg(feature = "eventbridge")]
mod eventbridge;
#[cfg(feature = "kinesis")]
mod kinesis;
#[cfg(any(feature = "eventbridge", feature = "sns", feature = "sqs"))]
mod message;
#[cfg(feature = "sns")]
mod sns;
#[cfg(feature = "sqs")]
mod sqs;

#[cfg(feature = "eventbridge")]
#[cfg_attr(docsrs, doc(cfg(feature = "eventbridge")))]
pub use eventbridge::EventBridgePublisher;
#[cfg(feature = "kinesis")]
#[cfg_attr(docsrs, doc(cfg(feature = "kinesis")))]
pub use kinesis::KinesisPublisher;
#[cfg(feature = "sns")]
#[cfg_attr(docsrs, doc(cfg(feature = "sns")))]
pub use sns::SnsPublisher;
#[cfg(feature = "sqs")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqs")))]
pub use sqs::SqsPublisher;
