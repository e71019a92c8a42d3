//! A real nginx that speaks TLS, with a server of the test's own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::certificates::{Files, Folder};
use crate::proxy::{PATIENCE, free_address};

/// A running nginx; dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Nginx {
    /// Starts one that shows a certificate. `server` is what else its server has. Each answer tells of its connection.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Folder, files: &Files, server: &str) -> Self {
        let address = free_address();
        let home = folder.path().join(format!("nginx-{}", address.port()));
        fs::create_dir_all(home.join("files")).expect("the temporary folder is writable");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|of| format!("{of}_temp_path {of};")).concat();
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr warn;\nevents {{}}\nhttp {{ access_log off; \
             {temporary} client_max_body_size 0; keepalive_requests 10000;\nserver {{ listen {address} ssl; \
             ssl_certificate {}; ssl_certificate_key {}; ssl_session_cache shared:tls:1m; root {}/files;\n\
             add_header x-requests $connection_requests always; add_header x-resumed $ssl_session_reused always;\n\
             add_header x-name $ssl_server_name always; add_header x-client $ssl_client_s_dn always;\n{server}\n}} }}\n",
            files.certificate.display(),
            files.key.display(),
            home.display(),
        );
        let file = home.join("nginx.conf");
        fs::write(&file, text).expect("the temporary folder is writable");
        let child = Command::new("nginx")
            .args(["-p".as_ref(), home.as_os_str(), "-c".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx is installed");
        let nginx = Self { address, child };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nginx does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
