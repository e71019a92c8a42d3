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
        Err(Error::Api(problem)) => Some(problem.to_string()),
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
