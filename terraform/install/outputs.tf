output "install_script" {
  description = "Shell text for bash to run at each boot, after remote_url and configuration are set."
  value       = local.install_script
}
