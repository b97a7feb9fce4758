# shellcheck shell=bash
# devstack/plugin.sh: the agent in devstack's phases; the work is done in lib/compute-agent.

# Save trace setting
_XTRACE_COMPUTE_AGENT_PLUGIN=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/compute-agent
source "$COMPUTE_AGENT_DIR/devstack/lib/compute-agent"

# Where the broker is, which may be a controller without guests of its own
if [[ "$*" == "stack post-config" ]] && is_service_enabled rabbit; then
    rpc_backend_add_vhost "$COMPUTE_AGENT_VHOST"
fi

if is_service_enabled compute-agent; then
    case "$*" in
        "stack pre-install")
            check_compute_agent_settings
            echo_summary "Installing what compute-agent needs"
            install_bindep "$COMPUTE_AGENT_DIR/bindep.txt"
            ;;
        "stack install")
            echo_summary "Installing compute-agent"
            install_compute_agent
            ;;
        "stack post-config")
            echo_summary "Configuring compute-agent"
            configure_compute_agent
            ;;
        "stack extra")
            echo_summary "Starting compute-agent"
            init_compute_agent
            start_compute_agent
            ;;
        "stack test-config")
            examine_compute_agent
            ;;
        "unstack")
            terminate_compute_agent_guests
            stop_compute_agent
            ;;
        "clean")
            cleanup_compute_agent
            ;;
    esac
fi

# Restore xtrace
$_XTRACE_COMPUTE_AGENT_PLUGIN
