//! An etcd of three members, of which some die or hang, and one that asks for certificates.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::leader::{Campaign, LEADER_TTL};
use foreshade_controller::store::{Etcd, EtcdTls, Store, StoreError, Txn};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::time::sleep;

use crate::bench::{act, all, block_on, key, put};
use crate::etcd_server::EtcdServer;
use crate::recorded::{Notes, crowd};

/// One after the other is killed, or hangs for longer than a call waits, while clients write and watch. What they were told
/// fits together.
pub(crate) fn members_that_die_lose_nothing() {
    block_on(async {
        let mut cluster = EtcdServer::start_cluster(3, &[], None).await;
        let mut options = cluster.options();
        options.deadline = Duration::from_secs(4);
        let store: Arc<dyn Store> = Arc::new(Etcd::new(&options).unwrap());
        let notes = Arc::new(Notes::default());
        let clients = {
            let (store, notes) = (Arc::clone(&store), Arc::clone(&notes));
            tokio::spawn(async move { crowd(&store, &notes, 1, 4, (300, Duration::from_millis(40))).await })
        };
        for at in [0, 1, 2] {
            sleep(Duration::from_millis(300)).await;
            cluster.kill(at);
            sleep(Duration::from_millis(900)).await;
            cluster.spawn(at);
            sleep(Duration::from_millis(1_500)).await;
            cluster.freeze(at, true);
            sleep(Duration::from_millis(1_500)).await;
            cluster.freeze(at, false);
        }
        clients.await.unwrap();
        // Else it would have proven little.
        let (done, troubled) = (notes.acknowledged(), notes.troubled());
        assert!(
            done > 300 && troubled > 0,
            "{done} writes were acknowledged, {troubled} were not"
        );
        notes.judge(store.as_ref()).await;
    });
}

/// A leader outlives the death of a member: his lease and his epoch stay.
pub(crate) fn a_leader_outlives_a_member() {
    block_on(async {
        let mut cluster = EtcdServer::start_cluster(3, &[], None).await;
        let store: Arc<dyn Store> = Arc::new(Etcd::new(&cluster.options()).unwrap());
        let campaign = Campaign::new(Arc::clone(&store), key("leader"), "leader", LEADER_TTL).unwrap();
        let leadership = campaign.win().await.unwrap();
        for at in [0, 1, 2] {
            cluster.kill(at);
            // Longer than a lease is kept alive.
            sleep(LEADER_TTL / 4).await;
            assert!(leadership.authority().is_ok());
            let txn = || Txn::new().then(put("a", &at.to_string()));
            // The connection may go to the dead one still.
            let mut written = leadership.txn(txn()).await;
            for _ in 0..5 {
                if written.is_ok() {
                    break;
                }
                written = leadership.txn(txn()).await;
            }
            written.unwrap();
            cluster.spawn(at);
            sleep(Duration::from_secs(2)).await;
        }
        assert!(leadership.authority().is_ok());
    });
}

/// Certificates of an authority that was made for this test.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

fn certificate(issuer: &Issuer<'static, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// An etcd that asks for certificates is spoken to with one, and says nothing without.
pub(crate) fn certificates_are_asked_for_and_shown() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (authority, issuer) = authority();
        let ((server, server_key), (ours, our_key)) = (certificate(&issuer), certificate(&issuer));
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        let flags = [
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", file("authority", &authority)),
            format!("--cert-file={}", file("server", &server)),
            format!("--key-file={}", file("key", &server_key)),
        ];
        let tls = EtcdTls {
            authority_pem: authority.into_bytes(),
            identity_pem: Some((ours.into_bytes(), our_key.clone().into_bytes())),
        };
        let flags = flags.each_ref().map(String::as_str);
        let etcd = EtcdServer::start_cluster(1, &flags, Some(tls.clone())).await;
        let mut options = etcd.options();
        let store = Etcd::new(&options).unwrap();
        act(&store, [put("a", "1")]).await;
        assert_eq!(all(&store).await.entries.len(), 1);
        assert!(
            !format!("{options:?}").contains(&our_key),
            "the key is nobody's business"
        );
        options.deadline = Duration::from_secs(2);
        let nobody = EtcdTls {
            identity_pem: None,
            ..tls.clone()
        };
        let (stranger, other) = (self::authority().0, tls);
        let strange = EtcdTls {
            authority_pem: stranger.into_bytes(),
            ..other
        };
        for wrong in [Some(nobody), Some(strange), None] {
            options.tls = wrong;
            let refused = match Etcd::new(&options) {
                Ok(store) => store.status().await.map(|_| ()),
                Err(error) => Err(error),
            };
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
    });
}
