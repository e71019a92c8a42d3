//! One order, from the account to a certificate (RFC 8555 section 7.4), with a key that nobody had before.
//!
//! What comes is looked at before it is kept: it has to be of the key that was made for it, and to bear all names, so that
//! a certificate that serves is never replaced by one that does not.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::challenges::{Challenges, Raised};
use super::{Failed, Issued, Proof, Wanted};
use crate::tls;

/// How long the authority may take to look at the proofs, and once more to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// Orders a certificate. What is returned is the certificate, those above it, and its key.
pub(super) async fn order(
    account: &Account,
    wanted: &Arc<Wanted>,
    challenges: &Challenges,
) -> Result<Issued, Failed> {
    let names = wanted.names.iter().cloned();
    let identifiers: Vec<_> = names.map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut raised = challenges.raise();
    prove(&mut order, wanted.proof, &mut raised).await?;
    let said = match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => None,
        Ok(_) => Some("no reason given".to_owned()),
        // The order's own, and not that of the answer.
        Err(Error::Api(problem)) if order.state().error.is_some() => Some(problem.to_string()),
        Err(error) => return Err(error.into()),
    };
    if let Some(said) = said {
        return Err(Failed::Invalid(reasons(&mut order).await.unwrap_or(said)));
    }
    drop(raised);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(wanted.names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let pem = [chain.trim_end(), "\n", &key.serialize_pem()].concat();
    tls::check_issued(pem.as_bytes(), &wanted.names).map_err(Failed::Useless)?;
    Ok(Issued(pem.into_bytes().into()))
}

/// Raises what proves each name, and has it looked at.
async fn prove(order: &mut Order, proof: Proof, raised: &mut Raised<'_>) -> Result<(), Failed> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            // Proven not long ago.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(Failed::Acme(Error::Str("an authorization that is over"))),
        }
        let name = authorization.identifier().to_string();
        let kind = match proof {
            Proof::Http => ChallengeType::Http01,
            Proof::TlsAlpn => ChallengeType::TlsAlpn01,
        };
        let Some(mut challenge) = authorization.challenge(kind) else {
            return Err(Failed::NotOffered(proof.label(), name));
        };
        let said = challenge.key_authorization();
        match proof {
            Proof::Http => raised.add_path(&challenge.token, said.as_str())?,
            Proof::TlsAlpn => raised.add_server(&name, said.digest().as_ref())?,
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the authority says of the names that it did not believe; `None` where it says nothing of any.
async fn reasons(order: &mut Order) -> Option<String> {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            break;
        };
        let errors = state
            .challenges
            .iter()
            .filter_map(|challenge| challenge.error.as_ref());
        let told = errors.map(|error| format!("{}: {error}", state.identifier()));
        reasons.extend(told);
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::pin::Pin;
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::{Request, Response};
    use instant_acme::{BodyWrapper, BytesResponse, HttpClient, NewAccount};
    use serde_json::{Value, json};

    use super::*;

    /// An authority that asks for no proof, and says this of an order, once.
    struct Says(Mutex<Option<(u16, Value)>>);

    impl HttpClient for Says {
        fn request(
            &self,
            request: Request<BodyWrapper<Bytes>>,
        ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
            let at = |path: &str| format!("https://acme.example{path}");
            let order = json!({
                "status": "pending", "identifiers": [], "authorizations": [], "finalize": at("/finalize"),
            });
            let (status, body) = match request.uri().path() {
                "/dir" => {
                    let urls = [
                        ("newNonce", "/nonce"),
                        ("newAccount", "/account"),
                        ("newOrder", "/orders"),
                    ];
                    let urls = urls.map(|(name, path)| (name.to_owned(), at(path).into()));
                    (200, Value::Object(urls.into_iter().collect()))
                }
                "/account" => (201, json!({ "status": "valid" })),
                "/orders" => (201, order),
                "/order" => self.0.lock().unwrap().take().expect("asked once"),
                _ => (200, json!({})),
            };
            let answer = Response::builder()
                .status(status)
                .header("replay-nonce", "nonce")
                .header("location", at("/order"));
            let (parts, ()) = answer.body(()).unwrap().into_parts();
            let body = Box::new(Bytes::from(body.to_string()));
            Box::pin(async { Ok(BytesResponse { parts, body }) })
        }
    }

    /// What becomes of an order of which this is said.
    async fn ordered(status: u16, body: Value) -> Failed {
        let client = Says(Mutex::new(Some((status, body))));
        let nobody = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = "https://acme.example/dir".to_owned();
        let builder = Account::builder_with_http(Box::new(client));
        let (account, _) = builder.create(&nobody, directory, None).await.unwrap();
        let wanted = Wanted {
            names: vec!["a.example".to_owned()],
            proof: Proof::Http,
            file: PathBuf::new(),
        };
        order(&account, &Arc::new(wanted), &Challenges::default())
            .await
            .unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn an_authority_that_cannot_answer_has_not_judged_the_names() {
        let problem = json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "later" });
        let failed = ordered(503, problem.clone()).await;
        assert!(matches!(failed, Failed::Acme(Error::Api(_))), "{failed:?}");
        let invalid = json!({
            "status": "invalid", "authorizations": [], "finalize": "https://acme.example/finalize", "error": problem,
        });
        let failed = ordered(200, invalid).await;
        assert!(
            matches!(&failed, Failed::Invalid(said) if said.contains("later")),
            "{failed:?}"
        );
    }
}
