output "install_script" {
  description = "Text for bash, to be run at each boot, with remote_url and configuration set before it."
  value       = local.install_script
}
