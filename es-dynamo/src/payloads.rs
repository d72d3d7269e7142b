//! A payload store on Amazon S3.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, Object};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use es_core::bytes::Bytes;
use es_core::payloads::{PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload};
use es_core::store::SetupKind;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::services;
use crate::table::client::object_timeouts;
use crate::table::{cause, no_credentials, no_region, refusal_code};

/// A payload store in a bucket of Amazon S3, for large events and snapshots
/// ([`DynamoStoreBuilder::payloads`](crate::DynamoStoreBuilder::payloads)) and for archives
/// ([`Archives`](es_core::repository::Archives)).
///
/// ```no_run
/// use es_dynamo::DynamoStore;
/// use es_dynamo::payloads::S3Payloads;
///
/// # async fn example(
/// #     client: aws_sdk_s3::Client,
/// #     dynamo: aws_sdk_dynamodb::Client,
/// # ) -> Result<(), es_core::StoreError> {
/// let payloads = S3Payloads::new(client, "orders-payloads");
/// let store = DynamoStore::builder().client(dynamo).payloads(payloads).build()?;
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
///
/// # Requests
///
/// | operation | requests | permissions |
/// |---|---|---|
/// | `put` | 1 `PutObject`; 1 `HeadObject` more if the object exists | `s3:PutObject`, `s3:GetObject` |
/// | `get` | 1 `GetObject` | `s3:GetObject` |
/// | `delete` | 1 `DeleteObject` | `s3:DeleteObject` |
/// | `list` | 1 `ListObjectsV2` for each 1,000 objects | `s3:ListBucket` |
///
/// An object is put on the condition that it does not exist (`If-None-Match: *`), with its SHA-256, which S3 verifies.
/// If it exists, its checksum is compared. Objects are therefore never overwritten, and all retries are safe, including
/// those of a put whose response was lost.
///
/// Without `s3:ListBucket`, S3 reports a missing object as a denied access.
///
/// # Errors
///
/// Throttling is [`PayloadError::Throttled`], and an outage or an exceeded time limit [`PayloadError::Unavailable`]. A
/// bucket that is missing, in another region, or not permitted is [`PayloadError::Setup`].
#[derive(Clone)]
pub struct S3Payloads {
    client: Client,
    bucket: String,
    key_prefix: Option<PayloadPrefix>,
    /// The limit for reading an object. The limits of the SDK end with the headers of the response.
    read_timeout: Duration,
}

impl S3Payloads {
    /// Returns a store in the bucket with this name, or with the ARN of an access point.
    ///
    /// If `client` limits neither the time of an attempt nor that of an operation, an attempt takes at most 60 seconds,
    /// and an operation with all of its attempts at most 180 seconds. The limits include the transfer of the object, so
    /// that larger objects may need longer ones.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        let timeouts = services::timeouts_or(client.config().timeout_config(), object_timeouts());
        let read_timeout = timeouts.operation_timeout().or(timeouts.operation_attempt_timeout());
        let config = client.config().to_builder().timeout_config(timeouts);
        // Contents are verified by the digests in their names.
        let config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.into(),
            key_prefix: None,
            read_timeout: read_timeout.unwrap_or(Duration::MAX),
        }
    }

    /// Returns a store in the bucket, with a client from the environment and the time limits of [`new`](Self::new).
    ///
    /// Credentials and the region come from the standard sources, as for
    /// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(bucket: impl Into<String>) -> Self {
        Self::new(Client::new(&services::from_env(object_timeouts()).await), bucket)
    }

    /// Returns a client of an S3-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        let config = aws_sdk_s3::config::Builder::from(&services::at(url, object_timeouts()));
        Client::from_conf(config.force_path_style(true).build())
    }

    /// Sets the beginning of the keys of all objects, so that several applications can share a bucket (default: none).
    /// The key of an object is this prefix, `/`, and the name of the object. Items in the table contain only the name,
    /// so the objects can be moved to another bucket or prefix.
    ///
    /// ```
    /// # fn example(client: aws_sdk_s3::Client) -> Result<(), es_core::payloads::InvalidPayloadName> {
    /// use es_dynamo::payloads::S3Payloads;
    ///
    /// let payloads = S3Payloads::new(client, "company").with_key_prefix("production/shop".parse()?);
    /// # let _ = payloads;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_key_prefix(mut self, prefix: PayloadPrefix) -> Self {
        self.key_prefix = Some(prefix);
        self
    }

    /// Returns the key of the object or the prefix with this name.
    fn key(&self, name: &impl fmt::Display) -> String {
        match &self.key_prefix {
            Some(prefix) => format!("{prefix}/{name}"),
            None => name.to_string(),
        }
    }

    /// Verifies that the existing object has the content of its name.
    async fn verify(&self, name: &PayloadName, length: usize) -> Result<(), PayloadError> {
        let head = self.client.head_object().bucket(&self.bucket).key(self.key(name));
        let head = head.checksum_mode(ChecksumMode::Enabled).send().await;
        let head = head.map_err(|error| match self.translate(name, error) {
            PayloadError::Missing { .. } => {
                PayloadError::unavailable("the object was deleted while it was being stored")
            }
            error => error,
        })?;
        match has_content(&head, name, length) {
            Some(true) => Ok(()),
            Some(false) => Err(PayloadError::corrupt(name, "the existing object has another content")),
            // Another program has copied it into the bucket.
            None => name.verified(self.get(name).await?).map(drop),
        }
    }

    /// Translates the error of a request for an object.
    fn translate<E>(&self, name: &PayloadName, error: SdkError<E, HttpResponse>) -> PayloadError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match refusal_code(&error) {
            Some("NoSuchKey" | "NotFound") => PayloadError::missing(name),
            Some("InvalidObjectState") => PayloadError::setup(
                format!(
                    "the object `{name}` is in a storage class for archiving: restore it in S3, and try again"
                ),
                Some(cause(&error)),
            ),
            _ => self.failed(error),
        }
    }

    /// Translates the error of a request to the bucket.
    fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> PayloadError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match problem(&error) {
            Problem::Throttled => PayloadError::Throttled(cause(&error)),
            Problem::Transient => PayloadError::unavailable(cause(&error)),
            Problem::Access(problem) => self.setup(SetupKind::Access, problem, &error),
            Problem::Setup(problem) => self.setup(SetupKind::Other, problem, &error),
        }
    }

    fn setup<E>(&self, kind: SetupKind, problem: &str, error: &SdkError<E, HttpResponse>) -> PayloadError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        PayloadError::setup_of(kind, format!("the bucket `{}` {problem}", self.bucket), Some(cause(error)))
    }
}

/// The kind of a failure that is not about a single object.
enum Problem {
    Throttled,
    /// The outcome is unknown, or the identical request may succeed later.
    Transient,
    /// The credentials or the permissions: the rest of a sentence that starts with the name of the bucket.
    Access(&'static str),
    /// Another part of the setup.
    Setup(&'static str),
}

/// Returns the kind of a failure.
fn problem<E>(error: &SdkError<E, HttpResponse>) -> Problem
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => {
            return Problem::Access(
                "cannot be addressed: check its name, and the credentials and the region of the client",
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            return Problem::Setup("cannot be reached: check the HTTP client of the client");
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && no_credentials(error) => {
            return Problem::Access(
                "needs signed requests: check the credentials and the region of the client",
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && no_region(error) => {
            return Problem::Setup(
                "needs a region: set `AWS_REGION`, or a region in the profile or the client",
            );
        }
        _ => {}
    }
    // The responses to `HeadObject` have no code.
    let status = error.raw_response().map(|response| response.status().as_u16());
    match error.code().unwrap_or_default() {
        // S3 throttles with status 503.
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" => {
            Problem::Throttled
        }
        "NotImplemented" => Problem::Setup(
            "is on a server without conditional puts (`If-None-Match: *`): use a server that supports them",
        ),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Problem::Setup(WRONG_REGION)
        }
        _ if status == Some(301) => Problem::Setup(WRONG_REGION),
        "NoSuchBucket" => Problem::Setup("does not exist: create it, or check its name"),
        "ExpiredToken" | "ExpiredTokenException" => {
            Problem::Access("refused expired credentials: renew them, for example with `aws sso login`")
        }
        "InvalidAccessKeyId" | "InvalidToken" | "SignatureDoesNotMatch" => {
            Problem::Access("did not accept the credentials: check them, and the region of the client")
        }
        "RequestTimeTooSkewed" => {
            Problem::Setup("refused the time of the request: synchronize the clock of this machine")
        }
        // A concurrent request deleted the object, or the content was delayed or damaged on the way.
        "BadDigest"
        | "ConditionalRequestConflict"
        | "IncompleteBody"
        | "OperationAborted"
        | "RequestTimeout"
        | "XAmzContentChecksumMismatch" => Problem::Transient,
        _ if status == Some(403) => Problem::Access(
            "denied access: the role needs s3:GetObject, s3:PutObject, and, for sweeps and archives, s3:DeleteObject on \
             its objects, and s3:ListBucket, without which S3 also denies access to missing objects",
        ),
        _ if refusal_code(error).is_some() => Problem::Setup("refused the request: see the code of S3"),
        _ => Problem::Transient,
    }
}

const WRONG_REGION: &str = "is in another region: set the region of the client to that of the bucket";

/// Returns whether an object has the content of its name, or `None` if it has no SHA-256 of the whole content. The
/// checksum of an object that was uploaded in parts ends with `-` and their number.
fn has_content(head: &HeadObjectOutput, name: &PayloadName, length: usize) -> Option<bool> {
    if head.content_length() != i64::try_from(length).ok() {
        return Some(false);
    }
    let checksum = head.checksum_sha256().filter(|checksum| !checksum.contains('-'))?;
    Some(checksum == STANDARD.encode(name.digest()))
}

/// Returns the object of a listing, if it is named by a digest.
fn listed(prefix: &PayloadPrefix, object: &Object) -> Option<Result<StoredPayload, PayloadError>> {
    let (_, file_name) = object.key()?.rsplit_once('/')?;
    let name = PayloadName::from_file_name(prefix.clone(), file_name).ok()?;
    let length = object.size().and_then(|bytes| bytes.try_into().ok());
    let time = object.last_modified().and_then(|time| time.to_millis().ok());
    let stored = length.zip(time.and_then(DateTime::from_timestamp_millis));
    Some(match stored {
        Some((length, stored_at)) => Ok(StoredPayload::new(name, length, stored_at)),
        None => Err(PayloadError::unavailable(format!("the listing has no size and time of `{name}`"))),
    })
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl PayloadStore for S3Payloads {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        let content = name.verified(content)?;
        let length = content.len();
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(name.digest()))
            .body(ByteStream::from(content))
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(error) if refusal_code(&error) == Some("PreconditionFailed") => {
                self.verify(name, length).await
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        let read = async {
            let object = self.client.get_object().bucket(&self.bucket).key(self.key(name)).send().await;
            let object = object.map_err(|error| self.translate(name, error))?;
            // A transfer that breaks off is an error of the connection, not of the object.
            let content = object.body.collect().await.map_err(PayloadError::unavailable)?;
            Ok(content.into_bytes())
        };
        let exceeded = |_| PayloadError::unavailable(format!("not read within {:?}", self.read_timeout));
        tokio::time::timeout(self.read_timeout, read).await.map_err(exceeded)?
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        let deleted = self.client.delete_object().bucket(&self.bucket).key(self.key(name)).send().await;
        match deleted.map_err(|error| self.translate(name, error)) {
            Ok(_) | Err(PayloadError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        let prefix = prefix.clone();
        // The continuation token of the next page, until there is none.
        stream::try_unfold(Some(None), move |next: Option<Option<String>>| {
            let prefix = prefix.clone();
            async move {
                let Some(token) = next else { return Ok(None) };
                let page = self
                    .client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(format!("{}/", self.key(&prefix)))
                    .delimiter("/")
                    .set_continuation_token(token)
                    .send()
                    .await
                    .map_err(|error| self.failed(error))?;
                let objects: Vec<_> =
                    page.contents().iter().filter_map(|object| listed(&prefix, object)).collect();
                let next = page.next_continuation_token;
                if page.is_truncated == Some(true) && next.is_none() {
                    return Err(PayloadError::unavailable(
                        "the listing has more pages, but no token for the next one",
                    ));
                }
                Ok(Some((stream::iter(objects), next.map(Some))))
            }
        })
        .try_flatten()
        .boxed()
    }
}

impl fmt::Debug for S3Payloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, key_prefix, .. } = self;
        f.debug_struct("S3Payloads")
            .field("bucket", bucket)
            .field("key_prefix", key_prefix)
            .finish_non_exhaustive()
    }
}
