# Made from the table of commands by client/tests/generated: change it there.

_pipoctl() {
    local word noun= verb= skip= at
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $skip ]]; then
            skip=
            continue
        fi
        case $word in
            --age-max | --age-min | --base | --bytes-max | --bytes-min | --command | -c | --confirmed | --count | --destination | --doors | --drain | --field | --file | -f | --from | --idle-min | --interval | -n | --kind | --level | --limit | --password-file | --port | --prefix | --protocol | --role | --server | -s | --sort | --source | --stage | --timeout | --transport | --udp-port | --user | --user | -u) skip=yes ;;
            -*) ;;
            *) if [[ -z $noun ]]; then noun=$word; elif [[ -z $verb ]]; then verb=$word; fi ;;
        esac
    done
    word=${COMP_WORDS[COMP_CWORD]}
    if [[ $skip ]]; then
        case ${COMP_WORDS[COMP_CWORD - 1]} in
            --transport) COMPREPLY=($(compgen -W 'auto kernel udp' -- "$word")) ;;
            --protocol) COMPREPLY=($(compgen -W '1 2' -- "$word")) ;;
            --password-file) COMPREPLY=($(compgen -f -- "$word")) ;;
            --file | -f) COMPREPLY=($(compgen -f -- "$word")) ;;
            --role) COMPREPLY=($(compgen -W 'user observer operator admin' -- "$word")) ;;
            --doors) COMPREPLY=($(compgen -W 'proxy admin both' -- "$word")) ;;
            --stage) COMPREPLY=($(compgen -W 'negotiate authenticate request resolve connect relay closing' -- "$word")) ;;
            --sort) COMPREPLY=($(compgen -W 'id age bytes user destination idle' -- "$word")) ;;
            --kind) COMPREPLY=($(compgen -W 'access diagnostic audit credential' -- "$word")) ;;
            --level) COMPREPLY=($(compgen -W 'error warn info debug trace' -- "$word")) ;;
        esac
        return
    fi
    local words=
    case $noun/$verb in
        /) words='user session setting config dns log metrics events server statistics watch help' ;;
        user/) words='list add remove password role' ;;
        session/) words='list show kill trace' ;;
        setting/) words='list get set reset' ;;
        config/) words='status set reset add-user remove-user password role rebase show discard diff check commit confirm rollback' ;;
        dns/) words='show flush' ;;
        log/) words='follow rotate' ;;
        metrics/) words='follow' ;;
        events/) words='' ;;
        server/) words='info workers drain undrain shutdown' ;;
        statistics/) words='' ;;
        watch/) words='' ;;
        help/) words='' ;;
    esac
    if [[ $word == -* ]]; then
        words='--command --file --help --json --json-lines --keep-going --password-file --protocol --server --timeout --transport --udp-port --user --version --yes'
        case $noun/$verb in
            user/list) words+=' --limit --prefix' ;;
            user/add) words+=' --doors --password-stdin --role' ;;
            user/password) words+=' --password-stdin' ;;
            user/role) words+=' --doors' ;;
            session/list) words+=' --age-max --age-min --bytes-max --bytes-min --descending --destination --idle-min --limit --port --sort --source --stage --user' ;;
            session/kill) words+=' --age-max --age-min --all --bytes-max --bytes-min --destination --dry-run --idle-min --port --source --stage --user' ;;
            session/trace) words+=' --count' ;;
            setting/set) words+=' --base' ;;
            setting/reset) words+=' --base' ;;
            config/add-user) words+=' --doors --password-stdin --role' ;;
            config/password) words+=' --password-stdin' ;;
            config/role) words+=' --doors' ;;
            config/commit) words+=' --confirmed' ;;
            dns/show) words+=' --limit' ;;
            log/follow) words+=' --count --from --kind --level --user' ;;
            metrics/) words+=' --meanings --per-worker' ;;
            metrics/follow) words+=' --count --interval' ;;
            events/) words+=' --age-max --age-min --bytes-max --bytes-min --count --destination --from --idle-min --kind --port --source --stage --user' ;;
            server/info) words+=' --field' ;;
            server/shutdown) words+=' --drain' ;;
            watch/) words+=' --count --interval' ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}

complete -F _pipoctl pipoctl
