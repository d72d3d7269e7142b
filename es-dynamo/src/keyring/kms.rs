//! A master key in AWS KMS.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use es_core::StoreError;
use es_core::personal::{MasterKey, Subject, SubjectKey, corrupt_key};
use es_core::store::SetupKind;

use crate::services;
use crate::table::client::default_timeouts;
use crate::table::{cause, refusal_code, translate_general};

/// The keys of the encryption context. They are stored nowhere, and needed to decrypt every key: never change them.
const TABLE: &str = "es:table";
const SUBJECT: &str = "es:subject";

/// A master key in AWS KMS, which never leaves it.
///
/// KMS generates the key of each new subject (`GenerateDataKey`), and decrypts it (`Decrypt`) when it is read from the
/// table. Both are one request for each key that is not cached.
///
/// The name of the table and the subject are the encryption context, with the keys `es:table` and `es:subject`. KMS
/// therefore does not decrypt a key that was copied to another subject, policies can require the table
/// (`kms:EncryptionContext:es:table`), and AWS CloudTrail logs which subject's key was decrypted.
///
/// ```no_run
/// use es_dynamo::DynamoStore;
/// use es_dynamo::keyring::{DynamoKeyring, KmsMasterKey};
///
/// # async fn example(client: aws_sdk_kms::Client) -> Result<(), es_core::StoreError> {
/// let store = DynamoStore::builder().build()?;
/// let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// let keyring = DynamoKeyring::builder(store.client(), KmsMasterKey::new(client, key)?).build();
/// # let _ = keyring;
/// # Ok(())
/// # }
/// ```
///
/// # Rotation
///
/// The [rotation of KMS](https://docs.aws.amazon.com/kms/latest/developerguide/rotate-keys.html) replaces the key
/// material and keeps the key's id, so it requires no change here. To use another KMS key, or to move from a
/// [`LocalMasterKey`](super::LocalMasterKey) to KMS, see [`DynamoKeyring::rewrap`](super::DynamoKeyring::rewrap).
///
/// # Errors
///
/// Throttling is [`StoreError::Throttled`], and an outage of KMS or an exceeded time limit [`StoreError::Unavailable`].
/// A key that is disabled, pending deletion, missing, or not permitted is [`StoreError::Setup`]. No error of KMS makes
/// personal data appear forgotten.
#[derive(Clone)]
pub struct KmsMasterKey {
    client: Client,
    /// The id or ARN of the key, as given.
    key: String,
    /// The id that is stored with each wrapped key.
    id: String,
}

impl KmsMasterKey {
    /// Creates a master key from the id or the ARN of a symmetric encryption key in KMS.
    ///
    /// If `client` limits neither the time of an attempt nor that of an operation, an attempt takes at most 5 seconds,
    /// and an operation with all of its attempts at most 30 seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if `key` is empty, or an alias. An alias can be moved to another key, and the keyring
    /// could not tell which key has wrapped a subject's key.
    pub fn new(client: Client, key: impl Into<String>) -> Result<Self, StoreError> {
        let key = key.into();
        // The id is the same in all regions of a multi-Region key, and in both forms.
        let id = key.rsplit('/').next().unwrap_or_default();
        if id.is_empty() || key.starts_with("alias/") || key.contains(":alias/") {
            let reason = format!(
                "`{key}` does not identify a KMS key: use the id or the ARN of a key, and not an alias, which can be moved \
                 to another key"
            );
            return Err(StoreError::setup(reason, None));
        }
        let id = format!("kms:{id}");
        let timeouts = services::timeouts_or(client.config().timeout_config(), default_timeouts());
        let client = Client::from_conf(client.config().to_builder().timeout_config(timeouts).build());
        Ok(Self { client, key, id })
    }

    /// Creates a master key as [`new`](Self::new) does, with a client from the environment.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(key: impl Into<String>) -> Result<Self, StoreError> {
        let config = services::from_env(default_timeouts()).await;
        Self::new(Client::new(&config), key)
    }

    /// Returns a client of a KMS-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        Client::new(&services::at(url, default_timeouts()))
    }

    /// Translates the error of a request. A refusal of the ciphertext is not an error of the setup: see
    /// [`is_damaged`].
    fn translate<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let (key, code) = (&self.key, refusal_code(&error));
        let reason = match code {
            Some("DisabledException") => format!("the KMS key `{key}` is disabled: enable it"),
            Some("KMSInvalidStateException") => format!(
                "the KMS key `{key}` cannot be used in its current state: if it is pending deletion, cancel the deletion and \
                 enable the key, because without it all personal data is lost"
            ),
            Some("NotFoundException") => format!(
                "the KMS key `{key}` does not exist in the account and the region of the client: check its id, and the region"
            ),
            Some("AccessDeniedException") => format!(
                "access to the KMS key `{key}` is denied: permit kms:GenerateDataKey and kms:Decrypt, and kms:Encrypt for \
                 a rotation, in the role's policy and in the policy of the key"
            ),
            Some("InvalidKeyUsageException") => {
                format!("the KMS key `{key}` does not encrypt: use a symmetric encryption key")
            }
            _ => return translate_general(error),
        };
        let kind = match code {
            Some("AccessDeniedException") => SetupKind::Access,
            _ => SetupKind::Other,
        };
        StoreError::setup_of(kind, reason, Some(cause(&error)))
    }
}

fn context(table: &str, subject: &Subject) -> HashMap<String, String> {
    HashMap::from([(TABLE.to_owned(), table.to_owned()), (SUBJECT.to_owned(), subject.as_str().to_owned())])
}

/// Returns whether KMS cannot decrypt a ciphertext, because it was damaged, or was encrypted under another key or with
/// another context.
fn is_damaged<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    matches!(refusal_code(error), Some("InvalidCiphertextException" | "IncorrectKeyException"))
}

/// Returns the key in a response.
fn key(plaintext: Option<Blob>) -> Result<SubjectKey, StoreError> {
    let bytes =
        plaintext.and_then(|plaintext| <[u8; SubjectKey::BYTES]>::try_from(plaintext.into_inner()).ok());
    bytes.map(SubjectKey::new).ok_or_else(|| incomplete("a key of 32 bytes"))
}

/// Returns the ciphertext in a response as a text.
fn text(ciphertext: Option<Blob>) -> Result<String, StoreError> {
    let ciphertext = ciphertext.filter(|ciphertext| !ciphertext.as_ref().is_empty());
    let ciphertext = ciphertext.ok_or_else(|| incomplete("a ciphertext"))?;
    Ok(STANDARD_NO_PAD.encode(ciphertext))
}

fn incomplete(what: &str) -> StoreError {
    StoreError::unavailable(format!("the response of KMS does not contain {what}"))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MasterKey for KmsMasterKey {
    fn id(&self) -> &str {
        &self.id
    }

    async fn generate(&self, table: &str, subject: &Subject) -> Result<(SubjectKey, String), StoreError> {
        let request = self.client.generate_data_key().key_id(&self.key).key_spec(DataKeySpec::Aes256);
        let request = request.set_encryption_context(Some(context(table, subject)));
        let generated = request.send().await.map_err(|error| self.translate(error))?;
        Ok((key(generated.plaintext)?, text(generated.ciphertext_blob)?))
    }

    async fn wrap(&self, table: &str, subject: &Subject, key: &SubjectKey) -> Result<String, StoreError> {
        let request = self.client.encrypt().key_id(&self.key).plaintext(Blob::new(key.as_bytes()));
        let request = request.set_encryption_context(Some(context(table, subject)));
        let encrypted = request.send().await.map_err(|error| self.translate(error))?;
        text(encrypted.ciphertext_blob)
    }

    async fn unwrap(&self, table: &str, subject: &Subject, wrapped: &str) -> Result<SubjectKey, StoreError> {
        let ciphertext = STANDARD_NO_PAD.decode(wrapped).map_err(|_| corrupt_key(subject))?;
        let request = self.client.decrypt().key_id(&self.key).ciphertext_blob(Blob::new(ciphertext));
        let request = request.set_encryption_context(Some(context(table, subject)));
        match request.send().await {
            Ok(decrypted) => key(decrypted.plaintext),
            Err(error) if is_damaged(&error) => Err(corrupt_key(subject)),
            Err(error) => Err(self.translate(error)),
        }
    }
}

impl fmt::Debug for KmsMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KmsMasterKey({})", self.key)
    }
}
