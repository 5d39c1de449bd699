"""Pictures on demand: a warm child process that keeps models loaded (`worker`), and its torch-free `client`."""
